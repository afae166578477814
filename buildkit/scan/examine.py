"""Scan one file: assemble the registry of formats and examine the content.

Content is recognised by its bytes, never by its name.
"""

from __future__ import annotations

from buildkit.scan.archives.registry import FORMATS as ARCHIVES
from buildkit.scan.context import HEAD, ScanContext
from buildkit.scan.formats.registry import FORMATS as OTHERS
from buildkit.scan.limits import LimitError, ScanBudget, ScanLimits
from buildkit.scan.pickle.net import catch_pickles
from buildkit.scan.pickle.registry import FORMATS as PICKLES
from buildkit.scan.result import Scan
from buildkit.scan.source import ScanSource

REGISTRY = (*PICKLES, *ARCHIVES, *OTHERS)  # in the order in which formats are tried


def examine(path: str, source: ScanSource, limits: ScanLimits, allowed: frozenset[str]) -> Scan:
    """Scan one file's content as ``buildkit.scan.scan`` documents."""
    context = ScanContext(path, ScanBudget(limits), REGISTRY, allowed, net=catch_pickles)
    try:
        context.examine(source)
    except LimitError as error:
        context.gap(str(error))
    return context.result()


def find_formats(source: ScanSource) -> tuple[str, ...]:
    """Return the names of the formats that recognise a content; none if one of them fails at it."""
    head = source.read(0, HEAD)
    try:
        return tuple(one.name for one in REGISTRY if one.recognise(head, source))
    except Exception:  # noqa: BLE001 - the scan tells what is wrong
        return ()
