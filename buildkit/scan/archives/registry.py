"""The archive formats and compressions."""

from __future__ import annotations

from buildkit.scan.archives import tar, unread, zipfiles
from buildkit.scan.archives.streams import CODECS
from buildkit.scan.context import Format

FORMATS = (
    Format("zip", zipfiles.recognise, zipfiles.scan, is_archive=True),
    Format("tar", tar.recognise, tar.scan, is_archive=True),
    *(Format(codec.name, codec.recognise, codec.scan, is_archive=True) for codec in CODECS),
    *unread.FORMATS,
)
