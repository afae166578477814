"""Build stages; where the Debian archive no longer has what the locks name, with what it has now, and say so."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from buildkit.build.options import BuildOptions, is_ci
from buildkit.cli.tracing import traced
from buildkit.errors import BuildkitError, VersionsGoneError
from buildkit.events import Emit, Note, ignore_event

if TYPE_CHECKING:
    from buildkit.report.build_report import Report
    from buildkit.resolve.present_apt import PresentLock
    from buildkit.tasks.trace_recorder import TraceRecorder

REFRESH = "refresh the locks: nox -s lock -- --upgrade-apt"
_SHOWN = 6  # changed packages of a lock


def build(folder: Path, names: tuple[str, ...], options: BuildOptions) -> list[Report]:
    """Build the named stages, or without names those that ship; raises what ``build_stages`` raises.

    If versions that an apt lock names are gone, the stages are built from the locks that could be made now: their keys
    say what was taken, the locks on disk stay, and warnings name the command that refreshes them. With ``--frozen``, in
    CI, and for images that are attested or signed, that is an error. The build is traced if OpenTelemetry's variables
    name a collector.
    """
    session = "-".join(("push" if options.push else "build", *(names if len(names) == 1 else ())))
    with traced(folder, session, names) as recorder:
        return _build(folder, names, options, recorder)


def _build(folder: Path, names: tuple[str, ...], options: BuildOptions, recorder: TraceRecorder | None) -> list[Report]:
    from buildkit.build.pipeline import build_stages
    from buildkit.report.view import open_view

    try:
        return build_stages(folder, names, options, recorder=recorder)
    except VersionsGoneError as error:
        if options.frozen or options.attests or is_ci(os.environ):
            raise _with_present(folder, error) from error
        with open_view(sys.stderr) as emit:
            locks = _find_present(folder, error, emit)
        if not locks:
            raise
    reports = build_stages(folder, names, options, {lock.file: lock.text for lock in locks}, recorder)
    with open_view(sys.stderr) as emit:
        _warn(emit, f"not built from the locks: Debian has other versions now; {REFRESH}")
    return reports


def _with_present(folder: Path, error: VersionsGoneError) -> VersionsGoneError:
    """Return the error with the versions that the archive has now, where it tells."""
    from buildkit.resolve.present_apt import find_present_locks

    try:
        locks = find_present_locks(folder, ignore_event)
    except BuildkitError:
        return error  # why the build failed is the better message
    changes = dict.fromkeys(change for lock in locks for change in lock.changes if change.split()[0] in error.names)
    if not changes:
        return error
    message = f"{error.message}; it has now: {', '.join(changes)}"
    return VersionsGoneError(message, hint=error.hint, output=error.output, names=error.names)


def _find_present(folder: Path, error: VersionsGoneError, emit: Emit) -> Sequence[PresentLock]:
    from buildkit.resolve.present_apt import find_present_locks

    _warn(emit, error.message)
    locks = find_present_locks(folder, emit)
    for lock in locks:
        more = len(lock.changes) - _SHOWN
        changes = ", ".join((*lock.changes[:_SHOWN], *([f"and {more} more"] if more > 0 else ())))
        _warn(emit, f"not what {lock.file} names, but what Debian has now: {changes}")
    _warn(emit, REFRESH)
    return locks


def _warn(emit: Emit, text: str) -> None:
    emit(Note(text=text, warning=True))
