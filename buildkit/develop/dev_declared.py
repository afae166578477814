"""What the development session adds to a container, in the words of an audit."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from pathlib import Path

from buildkit.audit.described import DescribedContainer
from buildkit.declare.audit_file import AuditAcceptance
from buildkit.develop.adapt import CONTROL, DEBUG_PORT, RELOADER, RELOADER_FOLDER, STATE
from buildkit.develop.dev_environment import JUPYTER, JUPYTER_PORT, NOTEBOOKS, TOKEN
from buildkit.inspection.declared_containers import NOTHING, Additions
from buildkit.running.labels import SERVICE

_SAID_BY = "nox -s dev"
_SOCKET = "the session talks with the reloader by a socket in it"
_WRITTEN = "notebooks are the developer's files"
_RELOADED = (
    ("writable-place", CONTROL, _SOCKET),
    ("executable-place", CONTROL, f"{_SOCKET}; a folder of the host is mounted without noexec"),
    ("writable-place", STATE, "the reloader keeps its state in it"),
)
_TYPED = (
    ("writable-place", f"/{NOTEBOOKS}", _WRITTEN),
    ("executable-place", f"/{NOTEBOOKS}", f"{_WRITTEN}; a folder of the host is mounted without noexec"),
)
_AS_ROOT = ("process-root", "/proc/1/status", f"{_WRITTEN}, and root owns their folder")


def find_added(home: Path, folder: Path, one: DescribedContainer) -> Additions:
    """Return what `nox -s dev` adds in the checkout ``folder``: nothing to a container without files of its runs.

    Those are below ``home``, where only the user may write. Programs that run from there are findings as ever.
    """
    ours = {(source, target) for source, target in one.flags.sources if _is_of_run(home, source)}
    if not ours:
        return NOTHING
    service, targets = one.labels.get(SERVICE, ""), {target: source for source, target in sorted(ours)}
    ports: list[int] = []
    accepted: list[tuple[str, str, str]] = []
    if _below(home, targets.get(CONTROL, "")) == f"control/{service}":
        ours.add((str(RELOADER_FOLDER), RELOADER))
        ports.append(DEBUG_PORT)
        accepted += _RELOADED
    if service == JUPYTER and _below(home, targets.get(TOKEN, "")) == posixpath.basename(TOKEN):
        ours.add((str(folder / NOTEBOOKS), f"/{NOTEBOOKS}"))
        ports.append(JUPYTER_PORT)
        accepted += _accept_notebooks(folder / NOTEBOOKS, one)
    published = dict(one.flags.published)
    return Additions(
        ports=tuple(f"{port}/tcp" for port in ports if f"{port}/tcp" in published),
        sources=tuple(sorted(ours)),
        acceptances=tuple(
            AuditAcceptance(rule=rule, path=path, reason=reason, file=_SAID_BY) for rule, path, reason in accepted
        ),
    )


def _accept_notebooks(folder: Path, one: DescribedContainer) -> Iterator[tuple[str, str, str]]:
    if (str(folder), f"/{NOTEBOOKS}") in one.flags.sources:
        yield from _TYPED
        if folder.is_dir() and folder.stat().st_uid == 0:
            yield _AS_ROOT


def _is_of_run(home: Path, source: str) -> bool:
    return bool(_below(home, source))


def _below(home: Path, source: str) -> str:
    """Return the path of a file of the host below the folder of a run; empty for one that is in none."""
    run, _, below = posixpath.relpath(source, home).partition("/") if source else ("", "", "")
    return below if run.startswith("run-") else ""
