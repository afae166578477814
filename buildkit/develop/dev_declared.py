"""What the development session adds to a container, in the words of an audit. Pure, given the folder of its runs."""

from __future__ import annotations

import posixpath
from pathlib import Path

from buildkit.audit.described import DescribedContainer
from buildkit.declare.audit_file import AuditAcceptance
from buildkit.develop.adapt import CONTROL, DEBUG_PORT, STATE
from buildkit.inspection.declared_containers import NOTHING, Additions
from buildkit.running.labels import SERVICE

_SAID_BY = "nox -s dev"
_SOCKET = "the session talks with the reloader by a socket in it"
_ACCEPTED = (
    ("writable-place", CONTROL, _SOCKET),
    ("executable-place", CONTROL, f"{_SOCKET}; a folder of the host is mounted without noexec"),
    ("writable-place", STATE, "the reloader keeps its state in it"),
)


def find_added(home: Path, one: DescribedContainer) -> Additions:
    """Return what `nox -s dev` adds: nothing to a container that has no reloader of a run below ``home``.

    Only the session makes the folder by which it talks with the reloader, and only the user may write there. Programs
    that run from those places are findings as ever.
    """
    controls = [source for source, target in one.flags.sources if target == CONTROL]
    if not any(_is_of_run(home, source, one.labels.get(SERVICE, "")) for source in controls):
        return NOTHING
    debug = f"{DEBUG_PORT}/tcp"
    return Additions(
        ports=(debug,) if debug in dict(one.flags.published) else (),
        acceptances=tuple(
            AuditAcceptance(rule=rule, path=path, reason=reason, file=_SAID_BY) for rule, path, reason in _ACCEPTED
        ),
    )


def _is_of_run(home: Path, source: str, service: str) -> bool:
    run, _, below = posixpath.relpath(source, home).partition("/")
    return run.startswith("run-") and below == f"control/{service}"
