"""Constants that hold loadable content: bytes or text with a pickle or an archive, encoded or not."""

from __future__ import annotations

import base64
import binascii
import re

from buildkit.lazy_dataclass import dataclass
from buildkit.scan.context import HEAD, Declared, ScanContext
from buildkit.scan.pickle.recognise import is_pickle
from buildkit.scan.pickle.values import ByteString, LongText
from buildkit.scan.source import BytesSource, RangeSource, ScanSource

MAGICS = (
    b"PK\x03\x04",
    b"\x1f\x8b\x08",
    b"BZh",
    b"\xfd7zXZ\x00",
    b"\x28\xb5\x2f\xfd",
    b"\x04\x22\x4d\x18",
    b"7z\xbc\xaf",
)
LARGEST = 32 * 2**20  # bytes of text that is decoded in memory
SHORTEST = 12
SHORTEST_DIGITS = 20  # of the smallest pickle that calls a function
SERIALIZED = ":serialized:"  # the key under which Stable-Baselines3 keeps pickles in JSON
LATIN = "\x80cPB\x1f("  # first characters of texts whose characters may be the bytes of a file
BASE64 = re.compile(rb"[A-Za-z0-9+/_\-\s]+={0,2}\s*")
HEX = re.compile(rb"(?:[0-9A-Fa-f]{2})+")


def find_payload_kind(context: ScanContext, source: ScanSource) -> str:
    """Return what ``source`` holds that a loader takes: a pickle that acts, or an archive; empty for neither."""
    if not source.read(0, HEAD).startswith(MAGICS):
        return "a pickle" if is_pickle(source, nested=True) else ""
    return "an archive" if context.is_archive(source) else ""


def scan_text(context: ScanContext, text: str) -> None:
    """Scan what a text of a structure holds, encoded or not: a loader may take it for a pickle."""
    if len(text) >= SHORTEST_DIGITS:
        ConstantScanner(context, BytesSource(b"")).scan(text, None)


def scan_serialized(context: ScanContext, digits: str) -> None:
    """Scan the pickle under ``SERIALIZED``; its loader ignores what is no digit of base64."""
    try:
        content = base64.b64decode(digits)
    except ValueError:
        content = b""
    context.descend("serialized", BytesSource(content), Declared.PICKLE_STREAM)


def name_place(kind: str, offset: int | None) -> str:
    """Return the name of a constant's content; it has no offset in a structure whose texts are decoded."""
    return kind if offset is None else f"{kind}@{offset}"


@dataclass(frozen=True, slots=True)
class ConstantScanner:
    """Scans the constants of a pickle in ``source``."""

    context: ScanContext
    source: ScanSource

    def scan(self, value: ByteString | LongText | str, offset: int | None) -> str:
        """Scan the constant at ``offset``; return what it holds, empty for nothing."""
        if isinstance(value, str):
            return self.scan_text(value.encode("utf-8", "surrogatepass"), value, offset)
        inside = RangeSource(self.source, value.start, value.size)
        if isinstance(value, ByteString):
            return self.descend(name_place("bytes", offset), inside) or self.scan_encoded(inside, offset)
        if value.head[:1].isascii():
            return self.scan_encoded(inside, offset)
        if value.size <= LARGEST:
            return self.scan_text(b"", inside.read(0, value.size).decode("utf-8", "replace"), offset)
        if value.head[0] == "\x80":
            self.context.gap(f"a text of {value.size} bytes is too long to decode", offset=offset)
        return ""

    def descend(self, name: str, content: ScanSource) -> str:
        """Scan ``content``, if it is loadable; return its kind, empty if it is not."""
        kind = find_payload_kind(self.context, content)
        if kind:
            self.context.descend(name, content)
        return kind

    def scan_text(self, raw: bytes, value: str, offset: int | None) -> str:
        """Scan a short text, or a text whose characters are bytes."""
        if value[:1] in LATIN and all(ord(char) < 256 for char in value[:64]):
            kind = self.descend(name_place("text", offset), BytesSource(value.encode("latin-1", "replace")))
            if kind:
                return kind
        return self.scan_encoded(BytesSource(raw), offset)

    def scan_encoded(self, source: ScanSource, offset: int | None) -> str:
        """Scan content that is the base64 or hexadecimal encoding of something."""
        if source.size < SHORTEST:
            return ""
        head = source.read(0, HEAD)
        for kind, form in (("hex", HEX), ("base64", BASE64)):
            if not form.fullmatch(head):
                continue
            start = decode_digits(kind, head if source.size <= HEAD else head[: len(head) // 4 * 4])
            if not start.startswith((b"\x80", *MAGICS)) and not is_pickle(BytesSource(start), nested=True):
                continue
            if source.size > LARGEST:
                self.context.gap(f"{kind} digits of {source.size} bytes are too many to decode", offset=offset)
                return ""
            payload = self.descend(
                name_place(kind, offset), BytesSource(decode_digits(kind, source.read(0, source.size)) or start)
            )
            if payload:
                return payload
        return ""


def decode_digits(kind: str, digits: bytes) -> bytes:
    """Decode base64 or hexadecimal digits; empty if they are invalid."""
    try:
        if kind == "hex":
            return binascii.unhexlify(digits)
        plain = b"".join(digits.split()).translate(bytes.maketrans(b"-_", b"+/"))
        return base64.b64decode(plain + b"=" * (-len(plain) % 4))
    except (binascii.Error, ValueError):
        return b""
