"""Findings about the code that processes of a container run. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from buildkit.audit import running_watch_rules as rules
from buildkit.audit.sighting import RunningCode
from buildkit.findings import Finding, Rule

_INITS = ("/run/podman-init", "/dev/init")  # where podman mounts the program of --init
_WHY = {
    "written": "it was written after the container began",
    "absent": "no layer of the image has it",
    "gone": "it was deleted while it runs",
}


def check_code(code: Iterable[RunningCode]) -> Iterator[Finding]:
    """Yield a finding for each file that is not the image's; paths are relative to the container's root."""
    for one in code:
        if one.place != "image" and not _is_podmans(one):
            yield from _check_script(one) if one.how == "script" else _check(one)


def _check(one: RunningCode) -> Iterator[Finding]:
    if one.place == "unknown":
        yield _finding(rules.NOT_CHECKED, one, "it cannot be told whether the image has it")
    elif one.place == "memory":
        yield _finding(rules.MEMORY_CODE, one, "no file has it")
    elif one.place != "mount":
        yield _finding(rules.FOREIGN_CODE, one, _WHY[one.place])
    elif one.writable:
        yield _finding(rules.WRITABLE_CODE, one, f"{one.mount} ({one.kind}) is writable")
    else:
        yield _finding(rules.MOUNTED_CODE, one, f"it is mounted at {one.mount} ({one.kind})")


def _check_script(one: RunningCode) -> Iterator[Finding]:
    """Check a script, whose name comes from a command line: one that is nowhere may be no script at all."""
    if one.place == "written":
        yield _finding(rules.WRITABLE_SCRIPT, one, _WHY["written"])
    elif one.place == "mount" and one.writable:
        yield _finding(rules.WRITABLE_SCRIPT, one, f"{one.mount} ({one.kind}) is writable")


def _is_podmans(one: RunningCode) -> bool:
    return one.path in _INITS and one.place == "mount" and not one.writable


def _finding(rule: Rule, one: RunningCode, why: str) -> Finding:
    who = f", run by {', '.join(one.names)}" if one.names else ""
    return Finding(rule=rule, what=f"{one.how} {one.path}: {why}{who}", path=one.path.lstrip("/"))
