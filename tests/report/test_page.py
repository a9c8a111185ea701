"""The page: everything is on it, it is well formed, and nothing of the user's is more than text."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from rayopt.report.page import render

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
VOID = {"meta", "link", "input", "img", "br"}


class Page(HTMLParser):
    """What a browser would see: elements, texts by element, and that elements are closed in order."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.setdefault(self.open[-1] if self.open else "", []).append(data)

    def attributes(self, name: str) -> list[str]:
        return [str(attributes[name]) for _, attributes in self.elements if name in attributes]


def test_the_page_has_everything(summary: dict[str, Any], plan: dict[str, Any]) -> None:
    source = render(summary, plan)
    page = Page(source)
    assert page.open == []
    assert "Recommended be5700000000: 10.0x smaller" in page.texts["h1"][0]
    tables = source[: source.index('id="figures"')]
    for text in ("out of memory\nby 3 GiB", "artifacts/be5700000000/model.onnx", "A processor", "seed: 7", "359 rows"):
        assert text in tables
    assert tables.count("<tr class=") == 10
    assert "0.980–1.030 at batch 1, 0.980–1.030 at batch 32. Differences" in re.sub(r"\s+", " ", tables)


def test_what_is_best_comes_first_when_nothing_is_better(summary: dict[str, Any], plan: dict[str, Any]) -> None:
    source = render(summary | {"recommended": None, "front": []}, plan)
    assert (
        "<h1>Nothing tried is better than the baseline within the budget (accuracy at most 1 point lower)</h1>"
        in source
    )
    assert '<p class="rest">Baseline ba5e00000000: 1013 KiB' in source


def test_nothing_is_loaded_from_outside(summary: dict[str, Any], plan: dict[str, Any]) -> None:
    page = Page(render(summary, plan))
    links = page.attributes("src") + page.attributes("href") + page.attributes("action")
    assert links
    assert all(not re.match(r"[a-z]+:|//", link) or link == "data:," for link in links)


def test_the_policy_allows_the_pages_own_scripts_alone(summary: dict[str, Any], plan: dict[str, Any]) -> None:
    source = render(summary, plan)
    policy = next(one for one in Page(source).attributes("content") if "default-src" in one)
    scripts = re.findall(r"<script>(.*?)</script>", source, flags=re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert len(hashes) == 3
    assert "script-src " + " ".join(f"'sha256-{one}'" for one in hashes) + ";" in policy
    assert "default-src 'none'" in policy
    assert "script-src 'unsafe" not in policy


def test_user_text_is_text(summary: dict[str, Any], plan: dict[str, Any]) -> None:
    elements = [tag for tag, _ in Page(render(summary, plan)).elements]
    summary |= {"name": EVIL, "metric": EVIL}
    summary["candidates"][0] |= {"steps": [EVIL], "verdict": EVIL, "path": "javascript:alert(3)"}
    summary["failed"][0] |= {"steps": [EVIL, "x", "y"], "reason": EVIL, "step": EVIL}
    summary["environment"] |= {"cpu": EVIL, "versions": {EVIL: EVIL, "rayopt": EVIL}}
    plan["job"] |= {"name": EVIL}
    page = Page(render(summary, plan))
    assert [tag for tag, _ in page.elements if tag in ("script", "img")] == ["script"] * elements.count("script")
    assert not any(link.startswith("javascript:") for link in page.attributes("href"))
    assert not page.attributes("onerror")
    views = json.loads(next(text for text in page.texts["script"] if text.startswith("[")))
    assert views[0]["label"].startswith(EVIL)


def test_chains_that_ended_alike_share_one_reason(summary: dict[str, Any], plan: dict[str, Any]) -> None:
    one = summary["failed"][0] | {"reason": "nothing left to prune"}
    summary["failed"] = [one | {"id": f"fa{number}", "steps": [f"pruned {number}"]} for number in range(9)]
    source = render(summary, plan)
    assert source.count("nothing left to prune") == 1
    assert "<summary>9 chains</summary>" in source
    assert all(f"<li>pruned {number}</li>" in source for number in range(9))


def test_only_accuracy_is_called_accuracy(summary: dict[str, Any], plan: dict[str, Any]) -> None:
    source = render(summary | {"metric": "mae", "higher_is_better": False}, plan)
    shown = source[source.index("<body>") : source.index("<script>", source.index("<body>"))]
    page = Page(source)
    assert "mae, test split" in page.texts["h2"]
    assert "accuracy" not in re.sub(r"max_accuracy_drop", "", shown).lower()


def empty(summary: dict[str, Any]) -> dict[str, Any]:
    return summary | {"baseline": None, "recommended": None, "front": [], "candidates": []}


@pytest.mark.parametrize(
    "change",
    [
        lambda one: empty(one) | {"status": "failed"},
        lambda one: empty(one) | {"status": "interrupted", "failed": []},
        lambda one: one | {"status": "interrupted", "recommended": None, "front": []},
        lambda one: one | {"recommended": None, "front": []},
        lambda one: one | {"baseline": None, "recommended": None},
        lambda one: one | {"metric": "rmse", "higher_is_better": False},
        lambda one: {"kind": "search", "name": "forest", "status": "done", "best_params": {"depth": 3}},
        lambda one: {},
    ],
)
def test_what_is_missing_is_left_out(summary: dict[str, Any], plan: dict[str, Any], change: Any) -> None:
    changed = change(summary)
    assert Page(render(changed, plan)).open == []
    assert Page(render(changed, {})).open == []


def test_a_page_without_models_carries_no_plot(summary: dict[str, Any], plan: dict[str, Any]) -> None:
    assert len(render(empty(summary), plan)) < 50_000
