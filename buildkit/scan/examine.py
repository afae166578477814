"""Recognise content by its bytes, never by its name, and hand it to the format that knows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from buildkit.scan.context import UNKNOWN, Scan, ScanContext
from buildkit.scan.limits import Budget, LimitError, Limits
from buildkit.scan.source import Source

HEAD = 4096


@dataclass(frozen=True, slots=True)
class Format:
    """A format: ``recognise`` is given the first ``HEAD`` bytes and the whole; ``scan`` tells the job what it finds."""

    name: str
    recognise: Callable[[bytes, Source], bool]
    scan: Callable[[ScanContext, Source], None]


def formats() -> tuple[Format, ...]:
    """Every format, in the order in which they are asked; content may be of several (polyglots): all scan it."""
    from buildkit.scan.archives.registry import FORMATS as ARCHIVES
    from buildkit.scan.formats.registry import FORMATS as OTHERS
    from buildkit.scan.pickle.registry import FORMATS as PICKLES

    return (*PICKLES, *ARCHIVES, *OTHERS)


def examine(job: ScanContext, source: Source) -> None:
    """Scan ``source`` as every format that recognises it; content that none knows is a gap.

    Raises:
        LimitError: the job's budget is used up.
    """
    head = source.read(0, HEAD)
    known = [one for one in formats() if one.recognise(head, source)]
    for one in known:
        job.formats[one.name] = None
        one.scan(job, source)
    if not known and source.size:
        job.gap(UNKNOWN)


def scan(path: str, source: Source, *, limits: Limits | None = None, allowed: frozenset[str] = frozenset()) -> Scan:
    """Scan one file's content; nothing of it is loaded or executed.

    ``path`` is only what findings call it; ``allowed`` are the globals that the user trusts beyond our list.
    """
    job = ScanContext(path, Budget(limits or Limits()), examine, allowed)
    try:
        examine(job, source)
    except LimitError as error:
        job.gap(str(error))
    return job.result()
