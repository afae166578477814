"""Archives and compressions that are recognised, but not read: each would take a parser of our own for hostile headers.

Models in them are rare, so a file that is one, or holds one, is a finding.
"""

from __future__ import annotations

import re
from functools import partial

from buildkit.scan.context import Format, ScanContext
from buildkit.scan.source import ScanSource
from buildkit.scan.unread import ARCHIVE

_MAGICS = {
    "7z": rb"7z\xbc\xaf\x27\x1c",
    "RAR": rb"Rar!\x1a\x07|RE~\^",
    "ACE": rb".{7}\*\*ACE\*\*",
    "ARJ": rb"\x60\xea..[\x1e-\x40]..[\0-\x0b]",
    "LHA": rb"..-lh.-|..-lz.-|..-pm.-",
    "zoo": rb".{20}\xdc\xa7\xc4\xfd",
    "ZPAQ": rb"zPQ[\x01-\x03]|7kSt\xa0\x31\x83\xd3\x8c\xb2\x28\xb0\xd3",
    "XAR": rb"xar!\0\x1c",
    "cpio": rb"07070[127][0-7A-Fa-f]{6}|\xc7\x71.{19}[\0-\x03]",
    "Windows image": rb"MSWIM\0\0\0",
    "StuffIt": rb"StuffIt |SIT!",
    "SquashFS": rb"hsqs.{24}\x04\0|sqsh.{24}\0\x04",
    "compress": rb"\x1f\x9d[\x09-\x10\x89-\x90]",
    "lzip": rb"LZIP[\0\x01]",
    "lzop": rb"\x89LZO\0\r\n\x1a\n",
    "lz4, legacy": rb"\x02\x21\x4c\x18",
    "snappy": rb"\xff\x06\0\0sNaPpY",
    "brotli, framed": rb"\xce\xb2\xcf\x81",
    "LZFSE": rb"bvx[-12n$]",
    "lrzip": rb"LRZI[\0-\x01]",
    "bzip3": rb"BZ3v1",
}
_IMAGES = ((0x8001, b"CD001"),)  # what is recognised by bytes beyond its head


def _recognise(pattern: re.Pattern[bytes], head: bytes, source: ScanSource) -> bool:
    del source
    return pattern.match(head) is not None


def _recognise_image(head: bytes, source: ScanSource) -> bool:
    del head
    return any(source.read(at, len(magic)) == magic for at, magic in _IMAGES)


def _scan(name: str, context: ScanContext, source: ScanSource) -> None:
    del source
    context.find(ARCHIVE, f"a {name} archive or stream, which this scanner does not read", offset=0)


FORMATS = (
    *(
        Format(name, partial(_recognise, re.compile(magic, re.DOTALL)), partial(_scan, name), is_archive=True)
        for name, magic in _MAGICS.items()
    ),
    Format("ISO 9660", _recognise_image, partial(_scan, "ISO 9660"), is_archive=True),
)
