"""Recognises WAV, FLAC, OGG and MP3 by their first bytes, and finds files that were cut short.

libsndfile reads two dozen formats, most of them rarely tested. Only what is recognised here ever reaches it.
"""

from __future__ import annotations

import struct
from enum import StrEnum
from typing import BinaryIO

from mpeg import measure_frame
from problems import MOST_PARTS, too_odd

STREAMED = 0x7FFF_0000  # programs that write WAV to a pipe leave a size at or above this: "until the end"
OGG_HEADER = 27
OGG_TAIL = 65_307  # the longest page: header, 255 lacing values, 255 x 255 bytes


class Format(StrEnum):
    """The container formats that are taken."""

    WAV = "wav"
    FLAC = "flac"
    OGG = "ogg"
    MP3 = "mp3"


MEDIA_TYPES = {
    "audio/wav": Format.WAV,
    "audio/x-wav": Format.WAV,
    "audio/wave": Format.WAV,
    "audio/vnd.wave": Format.WAV,
    "audio/flac": Format.FLAC,
    "audio/x-flac": Format.FLAC,
    "audio/ogg": Format.OGG,
    "audio/opus": Format.OGG,
    "audio/vorbis": Format.OGG,
    "application/ogg": Format.OGG,
    "audio/mpeg": Format.MP3,
    "audio/mp3": Format.MP3,
}


def find_format(head: bytes) -> Format | None:
    """Return the format that a file beginning with `head` (at least 12 bytes, where it has them) claims."""
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        return Format.WAV
    if head[:4] == b"fLaC":
        return Format.FLAC
    if head[:4] == b"OggS":
        return Format.OGG
    if head[:3] == b"ID3" or is_mpeg_frame(head):
        return Format.MP3
    return None


def is_mpeg_frame(head: bytes) -> bool:
    """Return whether `head` begins with the header of an MPEG-1/2/2.5 layer III frame."""
    return len(head) >= 4 and head[0] == 0xFF and measure_frame(head[1], head[2]) > 0


def is_cut_short(file: BinaryIO, kind: Format) -> bool:
    """Return whether `file` visibly ends before its own headers say, where libsndfile would not notice.

    FLAC and MP3 are left to the decoder, which knows how many samples they declare.

    Raises:
        Problem: WAV or FLAC has more than `MOST_PARTS` chunks or blocks before its samples.
    """
    if kind is Format.WAV:
        return is_wav_cut(file)
    if kind is Format.FLAC:
        check_blocks(file)
    if kind is Format.OGG:
        return is_ogg_cut(file)
    return False


def is_wav_cut(file: BinaryIO) -> bool:
    """Walk the chunks of a RIFF file: is the `data` chunk longer than what follows?"""
    size = file.seek(0, 2)
    at = 12
    for _ in range(MOST_PARTS):
        if at + 8 > size:
            return False  # no data chunk at all: libsndfile says so
        file.seek(at)
        name, length = struct.unpack("<4sI", file.read(8))
        at += 8
        if name == b"data":
            return bool(size - at < length < STREAMED)
        at += length + (length & 1)
    raise too_odd("many chunks before its samples")


def check_blocks(file: BinaryIO) -> None:
    """Walk the blocks of metadata of a FLAC file (RFC 9639, 8.1)."""
    at = 4
    for _ in range(MOST_PARTS):
        file.seek(at)
        header = file.read(4)
        if len(header) < 4 or header[0] & 0x80:  # the last one
            return
        at += 4 + int.from_bytes(header[1:])
    raise too_odd("many blocks of metadata")


def is_ogg_cut(file: BinaryIO) -> bool:
    """Look at the last page of an Ogg file (RFC 3533, 6): is it all there?

    A stream cut between two pages looks like a live recording that was stopped, and is taken as one.
    """
    size = file.seek(0, 2)
    file.seek(max(0, size - OGG_TAIL))
    tail = file.read(OGG_TAIL)
    page = tail[tail.rfind(b"OggS") :]
    if len(page) < OGG_HEADER or page[:4] != b"OggS":
        return True
    lacing = page[OGG_HEADER : OGG_HEADER + page[26]]
    return len(lacing) < page[26] or len(page) < OGG_HEADER + len(lacing) + sum(lacing)
