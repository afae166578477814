"""The formats of this package."""

from __future__ import annotations

from buildkit.scan.examine import Format

FORMATS: tuple[Format, ...] = ()
