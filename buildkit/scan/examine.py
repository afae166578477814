"""Scan one file: assemble the registry of formats and examine the content.

Content is recognised by its bytes, never by its name.
"""

from __future__ import annotations

from buildkit.scan.archives.registry import FORMATS as ARCHIVES
from buildkit.scan.context import Scan, ScanContext
from buildkit.scan.formats.registry import FORMATS as OTHERS
from buildkit.scan.limits import Budget, LimitError, Limits
from buildkit.scan.pickle.registry import FORMATS as PICKLES
from buildkit.scan.source import Source

REGISTRY = (*PICKLES, *ARCHIVES, *OTHERS)  # in the order in which formats are asked


def scan(path: str, source: Source, *, limits: Limits | None = None, allowed: frozenset[str] = frozenset()) -> Scan:
    """Scan one file's content without loading or executing any of it.

    ``path`` is only the name that findings use; ``allowed`` are the globals that the user trusts beyond the built-in
    allow-list.
    """
    context = ScanContext(path, Budget(limits or Limits()), REGISTRY, allowed)
    try:
        context.examine(source)
    except LimitError as error:
        context.gap(str(error))
    return context.result()
