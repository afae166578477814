from __future__ import annotations

import io
import struct

import pytest

from formats import Format, find_format, is_cut_short

OGG_PAGE = b"OggS\0\4" + bytes(20) + b"\2\xff\x05" + bytes(260)


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"RIFF\x24\x08\0\0WAVEfmt ", Format.WAV),
        (b"fLaC\0\0\0\x22", Format.FLAC),
        (b"OggS\0\2", Format.OGG),
        (b"ID3\x04\0\0", Format.MP3),
        (b"\xff\xfb\x90\x64", Format.MP3),
        (b"\xff\xf3\x40\xc4", Format.MP3),
        (b"\xff\xe3\x18\xc4", Format.MP3),
        (b"\xff\xfd\x90\x64", None),  # layer II
        (b"\xff\xf1\x50\x80", None),  # AAC in ADTS
        (b"\xff\xfb\xf0\x64", None),  # no such bit rate
        (b"\xff\xfb\x9c\x64", None),  # no such sample rate
        (b"RIFF\0\0\0\0AVI ", None),
        (b"RIFX\0\0\0\0WAVE", None),
        (b"FORM\0\0\0\0AIFF", None),
        (b"", None),
    ],
)
def test_formats_are_told_by_their_first_bytes(head: bytes, kind: Format | None) -> None:
    assert find_format(head) is kind


def make_wav(size: int, *chunks: bytes) -> io.BytesIO:
    return io.BytesIO(b"RIFF\0\0\0\0WAVE" + b"".join(chunks) + b"data" + struct.pack("<I", size) + bytes(100))


@pytest.mark.parametrize(
    ("size", "cut"), [(100, False), (60, False), (101, True), (0x7FFF_0000, False), (2**32 - 1, False)]
)
def test_a_wav_is_cut_short_where_its_data_chunk_is_longer_than_the_file(size: int, cut: bool) -> None:
    odd = b"LIST" + struct.pack("<I", 5) + b"abcde\0"  # chunks are padded to an even length
    assert is_cut_short(make_wav(size, odd), Format.WAV) is cut


def test_a_wav_without_a_data_chunk_is_left_to_the_decoder() -> None:
    assert not is_cut_short(io.BytesIO(b"RIFF\0\0\0\0WAVE" + b"junk" + struct.pack("<I", 9999)), Format.WAV)


@pytest.mark.parametrize(("missing", "cut"), [(0, False), (1, True), (260, True), (270, True), (280, True)])
def test_an_ogg_is_cut_short_where_its_last_page_is(missing: int, cut: bool) -> None:
    data = OGG_PAGE * 3
    assert is_cut_short(io.BytesIO(data[: len(data) - missing]), Format.OGG) is cut


def test_an_ogg_cut_between_pages_is_taken_as_a_recording_that_was_stopped() -> None:
    assert not is_cut_short(io.BytesIO(OGG_PAGE[:5] + b"\0" + OGG_PAGE[6:]), Format.OGG)
