from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile  # type: ignore[import-untyped]
from clips import Samples, make_tone

from audio import open_audio
from mpeg import Prefixed, find_track, give_length

SECONDS = 4


def encode(rate: int, mode: str, channels: int = 1) -> bytes:
    """Encode what grows from nothing to noise, so that a variable bit rate varies."""
    noise = np.random.default_rng(0).standard_normal(rate * SECONDS) * np.linspace(-0.1, 0.1, rate * SECONDS).clip(0)
    mono = (make_tone(440, rate, SECONDS) * np.linspace(0, 1, rate * SECONDS) + noise).astype(np.float32)
    file = io.BytesIO()
    with soundfile.SoundFile(
        file, "w", rate, channels, "MPEG_LAYER_III", format="MP3", bitrate_mode=mode, compression_level=0.5
    ) as writer:
        writer.write(np.stack([mono] * channels, axis=1))
    return file.getvalue()


def drop_info(data: bytes) -> bytes:
    track = find_track(memoryview(data))
    assert track is not None
    assert track.claimed == track.frames
    return data[track.start :]


def decode(data: bytes) -> tuple[float, Samples]:
    with open_audio(io.BytesIO(data), 3600) as audio:
        samples = np.concatenate(list(audio.blocks()))
    return audio.seconds, samples


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_file_without_a_length_is_decoded_to_its_end(rate: int, mode: str, channels: int) -> None:
    data = encode(rate, mode, channels)
    assert decode(data)[0] == pytest.approx(SECONDS, abs=1e-6)
    seconds, samples = decode(drop_info(data))
    assert seconds == pytest.approx(SECONDS, abs=0.3)  # with the encoder's delay and padding, told by nobody now
    assert seconds >= SECONDS
    assert np.abs(samples[-4_000:]).max() > 0.1


def test_two_files_put_together_are_both_decoded() -> None:
    data = encode(44_100, "VARIABLE")
    assert decode(data + data)[0] == pytest.approx(2 * SECONDS, abs=0.3)


def test_a_file_with_its_own_length_is_left_alone() -> None:
    file = io.BytesIO(encode(44_100, "VARIABLE"))
    assert give_length(file) is file


@pytest.mark.parametrize("junk", [bytes(300), b"\xff" * 50, b"TAG".ljust(128, b"x")])
def test_tags_padding_and_junk_do_not_matter(junk: bytes) -> None:
    data = drop_info(encode(44_100, "VARIABLE"))
    expected = decode(data)[0]
    tag = b"ID3\x04\x00\x00\x00\x00\x02\x00" + bytes(256)
    assert decode(tag + tag + data + junk)[0] == expected
    assert decode(tag + junk + data)[0] == expected


def test_what_is_no_mp3_is_left_to_the_decoder() -> None:
    for data in (b"", b"\xff", b"\xff\xfb\x90\x64", b"ID3\x04\0\0\x7f\x7f\x7f\x7f", bytes(9000), b"\xff\xfb" * 4000):
        file = io.BytesIO(data)
        assert give_length(file) is file


def test_a_prefixed_file_reads_like_the_bytes_put_together() -> None:
    data = bytes(range(200))
    whole, file = io.BytesIO(b"prefix" + data[50:]), Prefixed(b"prefix", io.BytesIO(data), 50)
    rng = np.random.default_rng(0)
    for _ in range(300):
        at, count = int(rng.integers(0, 170)), int(rng.integers(0, 60))
        assert file.seek(at) == whole.seek(at)
        assert file.read(count) == whole.read(count)
        assert file.tell() == whole.tell()
    assert file.seek(0, io.SEEK_END) == whole.seek(0, io.SEEK_END)
    assert file.seek(-5, io.SEEK_CUR) == whole.seek(-5, io.SEEK_CUR)
    assert file.read() == whole.read()
