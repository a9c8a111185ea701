"""The same rayopt and the same libraries on every host: compared, and mended with pip where they differ."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rayopt.cluster.commands import in_shell, last_words
from rayopt.cluster.environment import Difference, our_environment
from rayopt.cluster.files import ClusterFile
from rayopt.cluster.probe import Found, on_all, probe
from rayopt.cluster.ssh import Remote
from rayopt.cluster.state import only_one, read_state
from rayopt.cluster.wheel import make_wheel
from rayopt.errors import input_error

PIP_S = 1800.0
OURS = ("rayopt's files",)


@dataclass(frozen=True)
class Synced:
    """What a host had otherwise before, and what it has otherwise now, or why it could not be mended."""

    host: str
    before: tuple[Difference, ...] = ()
    after: tuple[Difference, ...] = ()
    trouble: str = ""

    @property
    def same(self) -> bool:
        return not self.after and not self.trouble

    def __str__(self) -> str:
        if self.trouble:
            return f"{self.host}: {self.trouble}"
        if self.after:
            return f"{self.host}: differs: {', '.join(map(str, self.after))}"
        if self.before:
            return f"{self.host}: mended: {', '.join(one.name for one in self.before)}"
        return f"{self.host}: the same as here"


def sync(cluster: ClusterFile, check: bool, say: Callable[[str], None]) -> list[Synced]:
    """Compares every host with this environment, and mends what pip can mend unless only a check was asked for."""
    if not cluster.hosts:
        problem = f"sync is for hosts of one's own, and this is a cluster of provider {cluster.provider!r}"
        raise input_error(str(cluster.path), problem, "its `setup_commands:` install what it needs at `up`")
    with only_one(cluster, "rayopt cluster sync"):
        say(f"{cluster.name}: comparing {len(cluster.hosts)} hosts")
        started = read_state(cluster)
        found = probe(cluster, cluster.hosts, started.mark if started else "")
        differing = {host: one for host, one in found.items() if _differences(one) and not one.trouble}
        mended = {} if check else on_all(cluster, differing, lambda remote: _mend(remote, found[remote.host], say))
        after = probe(cluster, [host for host, trouble in mended.items() if not trouble])
    return [_synced(host, one, after.get(host, one), mended.get(host, "")) for host, one in found.items()]


def _synced(host: str, before: Found, after: Found, trouble: str) -> Synced:
    reason = trouble or next((str(one.trouble.problem) for one in (before, after) if one.trouble), "")
    return Synced(host, _differences(before), _differences(after), reason)


def _differences(found: Found) -> tuple[Difference, ...]:
    return found.differences(our_environment())


def _mend(remote: Remote, found: Found, say: Callable[[str], None]) -> str:
    """Installs what differs into the environment that Ray is started from; gives why it could not be done."""
    differing = _differences(found)
    if python := next((one for one in differing if one.name == "Python"), None):
        return f"has {python}: pip cannot mend that; install Python {python.here} there"
    if found.facts["raylet"]:
        return f"Ray runs there, by the files that would be replaced: first `rayopt cluster down {remote.cluster.path}`"
    say(f"{remote.cluster.name}: mending {len(differing)} differences on {remote.host}")
    name, content = make_wheel()
    place = f".rayopt/wheels/{name}"
    wanted = [f"{one.name}=={one.here.partition('+')[0]}" for one in differing if one.name not in OURS]
    for command, given in (
        (f"mkdir -p ~/.rayopt/wheels && cat > ~/{place}", content),
        (in_shell(remote.cluster, _pip(found.facts["executable"], wanted, f"~/{place}")), b""),
    ):
        answer = remote.run(command, given=given, timeout_s=PIP_S)
        if answer.trouble or answer.code:
            said = answer.trouble or last_words({"err": answer.err, "out": answer.out})
            return f"could not be mended: {said}"
    return ""


def _pip(python: str, wanted: Sequence[str], wheel: str) -> str:
    pip = f"{shlex.quote(python)} -m pip install --quiet --disable-pip-version-check"
    own = f"{pip} --no-deps --no-index --force-reinstall {wheel}"
    return f"{pip} {shlex.join(wanted)} && {own}" if wanted else own
