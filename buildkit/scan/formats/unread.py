"""Formats of loaders that run code and that this scanner does not parse: serialized objects of other languages, models
that are compiled, and pickles that are not where they belong."""

from __future__ import annotations

import re

from buildkit.scan.context import ScanContext
from buildkit.scan.formats.protobuf import BYTES, VARINT, first_fields
from buildkit.scan.pickle.recognise import is_pickle
from buildkit.scan.source import RangeSource, ScanSource
from buildkit.scan.unread import CODE

_PADDING = 2**16  # zero bytes before a pickle that are looked behind
_NUMBER = rb"[\s\S]\0\0\0"
_MAGICS = tuple(
    (re.compile(magic, re.DOTALL), what)
    for what, magic in {
        "a serialized Java object": rb"\xac\xed\0\x05",
        "Java beans as XML, which is a program": rb"\s*<\?xml[^>]*>\s*<java\b[^>]*java\.beans\.XMLDecoder",
        "a serialized R object": rb"X\n\0\0\0[\x02\x03]|B\n[\x02\x03]\0\0\0|A\n[23]\n\d+\n\d+\n|RD[XAB][1-9]\n",
        "a Torch7 model": rb"\x04\0\0\0" + _NUMBER + rb"\x03\0\0\0V \d|4\n\d+\n3\nV \d",
        "a Torch7 function": rb"[\x06-\x08]\0\0\0" + _NUMBER + rb".{4}\x1bL",
        "a Torch7 table": rb"\x03\0\0\0"
        + _NUMBER
        + rb".{4}(?:\x02\0\0\0..\0\0[ -~]|\x01\0{9}\xf0\x3f)|3\n\d+\n\d+\n2\n\d+\n\D",
        "an object of .NET's BinaryFormatter": rb"\0\x01\0\0\0\xff\xff\xff\xff\x01\0\0\0\0\0\0\0",
        "a serialized PHP object": rb"[OC]:\d+:\"[\w\\]+\":\d+:\{",
        "a marshalled Ruby object": rb"\x04\x08[\[{oIeCcmSU]",
        "a Perl Storable": rb"pst0",
        "a serialized Julia object": rb"7JL[\0-\x40]",
        "a marshalled OCaml value": rb"\x84\x95\xa6[\xbd-\xbf]",
        "a marshalled Python code object": rb"\xe3(?:" + _NUMBER + rb"){3}..\0\0(?:..\0\0)?.{3}[\0-\x03][\xf3s]",
        "a database (GDBM), from which shelve loads pickles": rb"[\xcd-\xcf]\x9a\x57\x13|\x13\x57\x9a[\xcd-\xcf]",
        "a pickle of a protocol that is not known": rb"\x80[\x06-\x20][\x80\x88-\x8f\x95\x96(){}\[\]cCBXTUVKMJINSGFL]",
        "a Blender file, which may hold scripts": rb"BLENDER[-_0-9]",
        "a Mathematica dump": rb"\(\*This is a Mathematica binary dump file",
        "a Paddle program": rb'\s*\{\s*"base_code"\s*:\s*\{[^}]*"magic"\s*:\s*"pir"',
        "a TensorRT engine: native code, which loads plug-ins": rb"[pf]trt",
        "an ExecuTorch program: delegates in it are native code": rb".{4}ET\d\d",
        "a model compiled for an NPU (RKNN)": rb"RKNN",
        "a model compiled for an accelerator": rb"BLOBs",
    }.items()
)


def find_code_format(head: bytes, source: ScanSource) -> str | None:
    """Return what the content is; None for other content."""
    for pattern, what in _MAGICS:
        if pattern.match(head):
            return what
    if _is_paddle(head, source):
        return "a Paddle program"
    if len(head) > 5 and int.from_bytes(head[:4], "little") == source.size and b"\x02tag\0" in head:
        return "Julia objects in BSON"
    return None


def _is_paddle(head: bytes, source: ScanSource) -> bool:
    """Recognise a ProgramDesc of framework.proto: a block with its number, that of its parent, and variables."""
    if head[:1] != b"\x0a":
        return False
    blocks = first_fields(source, 1)
    if not blocks or blocks[0].wire != BYTES:
        return False
    inner = first_fields(source, 3, blocks[0].span) or []
    return [(item.number, item.wire) for item in inner] == [(1, VARINT), (2, VARINT), (3, BYTES)]


def recognise(head: bytes, source: ScanSource) -> bool:
    """Recognise by the first bytes, or by the first fields of a message."""
    return find_code_format(head, source) is not None


def scan(context: ScanContext, source: ScanSource) -> None:
    """Report what it is."""
    what = find_code_format(source.read(0, 4096), source)
    context.find(CODE, f"it is {what}, which this scanner does not read", offset=0)


def recognise_padded(head: bytes, source: ScanSource) -> bool:
    """Recognise a pickle behind zero bytes."""
    return head[:1] == b"\0" and (at := _find_content(source)) > 0 and is_pickle(source, at, nested=True)


def scan_padded(context: ScanContext, source: ScanSource) -> None:
    """Report that a pickle begins later, and scan it."""
    at = _find_content(source)
    context.find(CODE, f"a pickle begins behind {at} zero bytes", offset=at)
    context.descend(f"rest@{at}", RangeSource(source, at, source.size - at))


def _find_content(source: ScanSource) -> int:
    """Return where the first byte is that is not zero; 0 if there is none nearby."""
    content = source.read(0, _PADDING)
    at = len(content) - len(content.lstrip(b"\0"))
    return at if at < len(content) else 0
