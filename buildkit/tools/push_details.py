"""What helps a push to a registry."""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import dataclass

from buildkit.digest import Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class PushDetails:
    """What helps a push: ``mounts`` gives the path of another repository of the registry that may have a blob, or "".

    ``report`` is called with the bytes that have been sent. Without ``notes`` skopeo keeps no blob info cache, which
    costs more than it saves for small blobs. The repository is believed to have the blobs ``present``: it is asked for
    them only if it refuses the manifest.
    """

    mounts: Callable[[Digest], str] = lambda _digest: ""
    report: Callable[[int], None] = lambda _sent: None
    notes: bool = True
    present: Set[Digest] = frozenset()
