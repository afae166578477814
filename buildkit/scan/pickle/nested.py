"""Constants that hold something to load: bytes or text with a pickle or an archive in it, encoded or not."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass

from buildkit.scan.job import Job
from buildkit.scan.pickle.recognise import evidence
from buildkit.scan.pickle.values import Blob, Text
from buildkit.scan.source import BytesSource, RangeSource, Source

MAGICS = (
    b"PK\x03\x04",
    b"\x1f\x8b\x08",
    b"BZh",
    b"\xfd7zXZ\x00",
    b"\x28\xb5\x2f\xfd",
    b"\x04\x22\x4d\x18",
    b"7z\xbc\xaf",
)
LARGEST = 32 * 2**20  # of text that is decoded in memory
HEAD = 4096
SHORTEST = 12
BASE64 = re.compile(rb"[A-Za-z0-9+/_\-\s]+={0,2}\s*")
HEX = re.compile(rb"(?:[0-9A-Fa-f]{2})+")


def holds(source: Source) -> bool:
    """Whether content is something that a loader takes: a pickle that does something, or an archive."""
    head = source.read(0, HEAD)
    if not head.startswith(MAGICS):
        return evidence(source, nested=True)
    from buildkit.scan.archives.known import FORMATS

    return any(one.recognise(head, source) for one in FORMATS)


@dataclass(frozen=True, slots=True)
class Constants:
    """Looks into the constants of a pickle in ``source``."""

    job: Job
    source: Source

    def look(self, value: Blob | Text | str, offset: int) -> None:
        """Scan what ``value``, whose bytes begin at ``offset``, holds."""
        if isinstance(value, str):
            self.text(value.encode("utf-8", "surrogatepass"), value, offset)
        elif isinstance(value, Blob):
            inside = RangeSource(self.source, value.start, value.size)
            if holds(inside):
                self.job.descend(f"bytes@{offset}", inside)
            else:
                self.encoded(inside.read(0, HEAD), inside, offset)
        else:
            inside = RangeSource(self.source, value.start, value.size)
            if value.head[:1].isascii():
                self.encoded(inside.read(0, HEAD), inside, offset)
            elif value.size <= LARGEST:
                self.text(b"", inside.read(0, value.size).decode("utf-8", "replace"), offset)
            elif value.head[0] == "\x80":
                self.job.gap(f"a text of {value.size} bytes is too long to decode", offset=offset)

    def text(self, raw: bytes, value: str, offset: int) -> None:
        """A short text, or one whose characters are bytes."""
        if value[:1] in "\x80cPB\x1f(" and all(ord(char) < 256 for char in value[:64]):
            held = BytesSource(value.encode("latin-1", "replace"))
            if holds(held):
                self.job.descend(f"text@{offset}", held)
                return
        if len(raw) >= SHORTEST:
            self.encoded(raw[:HEAD], BytesSource(raw), offset)

    def encoded(self, head: bytes, source: Source, offset: int) -> None:
        """Content that is base64 or hexadecimal digits of something."""
        if len(head) < SHORTEST:
            return
        for kind, form in (("hex", HEX), ("base64", BASE64)):
            part = head if source.size <= HEAD else head[: len(head) // 4 * 4]
            if not form.fullmatch(part):
                continue
            begun = decode(kind, part[: len(part) // 4 * 4] if source.size > HEAD else part)
            if not begun.startswith((b"\x80", *MAGICS)) and not evidence(BytesSource(begun), nested=True):
                continue
            if source.size > LARGEST:
                self.job.gap(f"{kind} digits of {source.size} bytes are too many to decode", offset=offset)
            else:
                whole = BytesSource(decode(kind, source.read(0, source.size)) or begun)
                if not holds(whole):
                    continue
                self.job.descend(f"{kind}@{offset}", whole)
            return


def decode(kind: str, digits: bytes) -> bytes:
    """The bytes that ``digits`` stand for; none where they are no such digits."""
    try:
        if kind == "hex":
            return binascii.unhexlify(digits)
        plain = b"".join(digits.split()).translate(bytes.maketrans(b"-_", b"+/"))
        return base64.b64decode(plain + b"=" * (-len(plain) % 4))
    except (binascii.Error, ValueError):
        return b""
