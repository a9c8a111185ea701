"""The page in a real browser: the plot is drawn, sorting works, nothing is logged, nothing is asked from outside."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rayopt.report.page import render

pytestmark = pytest.mark.browser

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
]
POINTS = "#plot .points path.point"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium; a skip where there is none, except in continuous integration."""
    names = ("chromium", "chromium-browser", "google-chrome")
    executable = next((path for name in names if (path := shutil.which(name))), None)
    if executable is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("none of these is installed: " + ", ".join(names))
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
        yield browser
        browser.close()


class Opened:
    """A page with all that it logged and asked for."""

    def __init__(self, browser: Any, file: Path, **options: Any) -> None:
        self.noise: list[str] = []
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.page.on("console", lambda message: self.noise.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.noise.append(f"error: {error}"))
        self.page.on("dialog", lambda dialog: (self.noise.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        self.page.on("request", lambda request: self._requested(request.url, file))
        self.page.goto(file.as_uri())

    def _requested(self, url: str, file: Path) -> None:
        if url != file.as_uri() and not url.startswith(("data:", "blob:")):
            self.noise.append(f"request: {url}")


@pytest.fixture
def open_page(browser: Any, tmp_path: Path, plan: dict[str, Any]) -> Iterator[Any]:
    """Opens the page of a summary; at the end nothing may have been logged or asked for."""
    opened: list[Opened] = []

    def open_page(summary: dict[str, Any], **options: Any) -> Any:
        file = tmp_path / f"report{len(opened)}.html"
        file.write_text(render(summary, plan), encoding="utf-8")
        opened.append(Opened(browser, file, **options))
        return opened[-1].page

    yield open_page
    for one in opened:
        one.context.close()
    assert [one.noise for one in opened] == [[]] * len(opened)


def test_the_plot_has_a_point_for_each_timed_file(open_page: Any, summary: dict[str, Any]) -> None:
    page = open_page(summary)
    timed = [one for one in (summary["baseline"], *summary["candidates"]) if one["latency_ratio"]]
    assert page.locator(POINTS).count() == len({one["sha256"] for one in timed if "same" not in one["verdict"]}) == 8
    page.select_option("#view", label="accuracy by size")
    assert page.locator(POINTS).count() == 9


def test_pointing_shows_steps_and_figures(open_page: Any, summary: dict[str, Any]) -> None:
    page = open_page(summary)
    page.locator("#plot").scroll_into_view_if_needed()
    box = page.locator(POINTS).last.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    hover = page.locator("#plot .hoverlayer")
    hover.locator("text").first.wait_for()
    assert "export_onnx" in hover.inner_html()
    assert page.locator("#plot .modebar-btn").count() == 6
    assert not page.locator("#plot [data-title*=hare]").count()


def test_a_click_on_a_header_sorts(open_page: Any, summary: dict[str, Any]) -> None:
    page = open_page(summary)
    sizes = "[...document.querySelectorAll('table.sortable tbody tr')].map(row => +row.cells[2].dataset.value)"
    header = page.locator("table.sortable thead th", has_text="Size")
    assert page.evaluate(sizes) != sorted(page.evaluate(sizes))
    header.locator("button").click()
    assert page.evaluate(sizes) == sorted(page.evaluate(sizes))
    assert header.get_attribute("aria-sort") == "ascending"
    header.locator("button").click()
    assert page.evaluate(sizes) == sorted(page.evaluate(sizes), reverse=True)


def test_what_is_not_known_is_sorted_last_both_ways(open_page: Any, summary: dict[str, Any]) -> None:
    page = open_page(summary)
    last = page.locator("table.sortable tbody tr").last
    button = page.locator("table.sortable thead th button", has_text="Latency, batch 32")
    for _ in range(2):
        button.click()
        assert last.get_attribute("data-id") == "707000000000"


@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_body_never_overflows(open_page: Any, summary: dict[str, Any], width: int, scheme: str) -> None:
    summary["failed"][0]["reason"] = "x" * 500
    page = open_page(summary, viewport={"width": width, "height": 900}, color_scheme=scheme)
    assert page.locator(POINTS).count() == 8
    assert page.evaluate("[document.documentElement.scrollWidth, document.body.scrollWidth]") == [width, width]
    assert page.screenshot(full_page=True)


OVERFLOWING = """[...document.querySelectorAll("body *")]
  .filter(one => !one.closest(".scroll table, svg, pre") && one.getClientRects().length && one.clientWidth)
  .filter(one => !one.matches(".scroll") && one.scrollWidth > one.clientWidth + 1)
  .map(one => `${one.tagName} ${one.className}: ${one.scrollWidth} in ${one.clientWidth}`)"""


@pytest.mark.parametrize("width", [400, 1280])
def test_whatever_is_long_stays_within_its_box(open_page: Any, crowded: dict[str, Any], width: int) -> None:
    page = open_page(crowded, viewport={"width": width, "height": 900})
    assert page.locator(POINTS).count() == 8
    assert page.evaluate("[document.documentElement.scrollWidth, document.body.scrollWidth]") == [width, width]
    assert page.evaluate(OVERFLOWING) == []


def test_scores_stay_within_their_card(open_page: Any, summary: dict[str, Any]) -> None:
    page = open_page(summary | {"metric": "r2"}, viewport={"width": 1280, "height": 900})
    assert page.locator(".cards li").count() == 4
    assert page.evaluate(OVERFLOWING) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_caution_is_seen_without_its_color(open_page: Any, summary: dict[str, Any], scheme: str) -> None:
    page = open_page(summary | {"caution": "worse on the test split"}, color_scheme=scheme)
    note = page.get_by_role("note")
    assert note.inner_text().replace("\n", "") == "⚠Caution: worse on the test split."
    assert note.evaluate("one => parseFloat(getComputedStyle(one).borderLeftWidth)") >= 4
    assert note.evaluate("one => getComputedStyle(one).backgroundColor !== 'rgba(0, 0, 0, 0)'")


def test_colors_follow_the_scheme(open_page: Any, summary: dict[str, Any]) -> None:
    from playwright.sync_api import expect

    page = open_page(summary, color_scheme="light")
    fill = f"getComputedStyle(document.querySelector('{POINTS}')).fill"
    light = page.evaluate(fill)
    page.emulate_media(color_scheme="dark")
    expect(page.locator(POINTS).first).not_to_have_css("fill", light)  # a string to wait for would have to be evaluated


def test_scripts_in_user_text_do_not_run(open_page: Any, summary: dict[str, Any]) -> None:
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
    summary |= {"name": evil, "metric": evil}
    summary["candidates"][0]["steps"] = [evil]
    summary["failed"][0]["reason"] = evil
    page = open_page(summary)
    assert page.locator(POINTS).count() == 8
    assert page.locator("img").count() == 0


def test_a_run_without_models_makes_a_quiet_page(open_page: Any, summary: dict[str, Any]) -> None:
    summary |= {"status": "failed", "baseline": None, "recommended": None, "front": [], "candidates": []}
    assert "cannot be made or measured" in open_page(summary).locator("h1").inner_text()
