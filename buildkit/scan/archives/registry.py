"""The formats of this package."""

from __future__ import annotations

from buildkit.scan.archives import sevenzip, tar, zipfiles
from buildkit.scan.archives.streams import CODECS
from buildkit.scan.examine import Format

FORMATS = (
    Format("zip", zipfiles.recognise, zipfiles.scan),
    Format("tar", tar.recognise, tar.scan),
    Format("7z", sevenzip.recognise, sevenzip.scan),
    *(Format(codec.name, codec.recognise, codec.scan) for codec in CODECS),
)
