"""A blob that is uploaded while it is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from buildkit.digest import Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class GrowingBlob:
    """A file, by its descriptor, that another thread still writes to.

    ``wait`` is given the bytes that were sent. It returns how many the file has once there are more, or no more will
    come. ``digest`` returns the digest after that, or raises if there is to be no blob.
    """

    file: int
    wait: Callable[[int], int]
    digest: Callable[[], Digest]
