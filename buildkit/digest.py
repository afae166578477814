"""One type for each kind of hash, so that a digest, a diff_id and a key never compare equal.

All are SHA-256, kept as 64 lower-case hexadecimal digits, and written ``sha256:HEX`` where the OCI image
specification requires it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, order=True, init=False)
class _Sha256:
    hex: str

    def __init__(self, hex: str) -> None:  # noqa: A002 - our own: half the time, for each of many thousand files
        if not _HEX.fullmatch(hex):
            raise ValueError(f"not a SHA-256: {hex[:80]!r}")
        object.__setattr__(self, "hex", hex)

    def __str__(self) -> str:
        return f"sha256:{self.hex}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``sha256:HEX``; raises ValueError."""
        algorithm, _, digits = text.partition(":")
        if algorithm != "sha256":
            raise ValueError(f"not a sha256: digest: {text[:80]!r}")
        return cls(digits)

    @classmethod
    def of(cls, data: bytes) -> Self:
        """Hash ``data``."""
        return cls(hashlib.sha256(data).hexdigest())

    @property
    def short(self) -> str:
        """The first twelve digits, for people."""
        return self.hex[:12]


class Digest(_Sha256):
    """The hash of stored bytes: a blob, a manifest, a config."""

    __slots__ = ()


class DiffId(_Sha256):
    """The hash of a layer's uncompressed tar."""

    __slots__ = ()


class Key(_Sha256):
    """The hash of a recipe, which holds everything that a layer depends on."""

    __slots__ = ()


class FileHash(_Sha256):
    """The hash of a file's content as a lock or a git tree names it."""

    __slots__ = ()


def canonical_json(value: Any, default: Callable[[Any], str] | None = None) -> str:  # noqa: ANN401
    """Return JSON with sorted keys and no spaces: equal values give equal text.

    ``default`` renders what JSON has no type for; raises TypeError without it.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=default)
