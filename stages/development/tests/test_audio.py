from __future__ import annotations

import contextlib
import io
import tracemalloc

import numpy as np
import pytest
import soundfile  # type: ignore[import-untyped]
import soxr  # type: ignore[import-untyped]
from clips import FORMATS, Clip, Samples, encode, make_tone

from audio import AudioStream, open_audio
from problems import Problem


def decode(data: bytes, max_seconds: float = 3600) -> tuple[AudioStream, Samples]:
    with open_audio(io.BytesIO(data), max_seconds) as audio:
        blocks = list(audio.blocks())
    return audio, np.concatenate(blocks) if blocks else np.empty(0, np.float32)


def refuse(data: bytes, max_seconds: float = 3600) -> tuple[int, str]:
    with pytest.raises(Problem) as caught:
        decode(data, max_seconds)
    assert caught.value.message
    assert caught.value.hint
    return caught.value.status, caught.value.code


@pytest.mark.parametrize(("name", "kind", "subtype", "_"), FORMATS)
@pytest.mark.parametrize("channels", [1, 2])
def test_every_format_decodes_as_libsndfile_decodes_it_whole(
    name: str, kind: str, subtype: str, _: str, channels: int, speech: Clip
) -> None:
    rate = 48_000
    mono = soxr.resample(np.tile(speech.samples, 3), speech.rate, rate).astype(np.float32)
    data = encode(np.stack([mono * (1 - 0.5 * at) for at in range(channels)], axis=1), rate, kind, subtype)
    whole = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)[0]
    expected = soxr.resample(np.clip(whole.mean(axis=1), -1, 1), rate, 16_000)
    audio, found = decode(data)
    assert (audio.kind.value, audio.rate, audio.channels, audio.encoding) == (name, rate, channels, subtype)
    assert audio.frames == len(whole)
    assert abs(len(found) - len(expected)) <= 1
    shortest = min(len(found), len(expected))
    assert np.abs(found[:shortest] - expected[:shortest]).max() < 1e-4


@pytest.mark.parametrize("rate", [1_000, 8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000, 192_000, 768_000])
def test_any_rate_keeps_length_pitch_and_time(rate: int) -> None:
    tone = make_tone(300, rate, 6)
    audio, found = decode(encode(tone, rate))
    assert audio.seconds == pytest.approx(6)
    assert abs(len(found) - 6 * 16_000) <= 2
    middle = slice(16_000, 80_000)  # phase and amplitude, so no delay either
    assert np.abs(found[middle] - make_tone(300, 16_000, 6)[middle]).max() < 2e-3


@pytest.mark.parametrize("hertz", [8_600, 12_000, 15_700])
def test_what_16_khz_cannot_hold_is_filtered_out_not_folded(hertz: int) -> None:
    found = decode(encode(make_tone(hertz, 44_100, 3), 44_100, "WAV", "FLOAT"))[1][4_000:-4_000]
    assert np.sqrt(np.mean(found**2)) < 1e-4


def test_many_channels_are_averaged() -> None:
    tone = make_tone(440, 16_000, 1)
    several = np.zeros((len(tone), 16), np.float32)
    several[:, 3] = tone
    assert np.abs(decode(encode(several, 16_000, "WAV", "FLOAT"))[1] - tone / 16).max() < 1e-6


def test_floating_point_beyond_full_scale_is_clipped() -> None:
    loud = np.full(16_000, 1e30, np.float32)
    assert np.array_equal(decode(encode(loud, 16_000, "WAV", "FLOAT"))[1], np.ones(16_000, np.float32))


def test_a_streamed_wav_without_a_size_is_taken_to_its_end() -> None:
    data = bytearray(encode(make_tone(440, 16_000, 1), 16_000))
    at = data.index(b"data")
    for size in (0xFFFF_FFFF, 0x7FFF_F024):
        data[4:8] = data[at + 4 : at + 8] = size.to_bytes(4, "little")
        assert decode(bytes(data))[0].frames == 16_000


def test_an_empty_body_is_refused() -> None:
    assert refuse(b"") == (400, "empty")


@pytest.mark.parametrize(
    "data",
    [b"\0" * 5000, b"hello", b"<html>" * 100, b"%PDF-1.7" + bytes(100), b"RIFF\0\0\0\0WEBP", b"\xff\xfb", b"R"],
    ids=repr,
)
def test_what_is_no_audio_is_refused(data: bytes) -> None:
    assert refuse(data) == (400, "not_audio")


@pytest.mark.parametrize(
    "head", [b"RIFF\x24\0\0\0WAVEfmt ", b"fLaC\0\0\0\x22", b"\xff\xfb\x90\x64\0\0\0\0", b"ID3\x04\0\0\0\0\0\0"]
)
def test_a_beginning_alone_is_refused(head: bytes) -> None:
    assert refuse(head)[0] == 400


FRAME = bytes((0xFF, 0xF3, 0x14, 0xC0)).ljust(24, b"\0")  # 8 kbit/s: the shortest that there are


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"RIFF\0\0\0\0WAVE" + b"junk\0\0\0\0" * 1000, "many chunks"),
        (b"fLaC" + b"\1\0\0\0" * 1001, "many blocks"),
        ((b"ID3\4\0\0" + bytes(4)) * 1000 + FRAME * 9, "many tags"),
        (FRAME * 2 + (FRAME + b"\xff\xfb\x90\x64" * 1020) * 300, "much junk"),
    ],
    ids=["chunks", "blocks", "tags", "junk"],
)
def test_what_would_take_seconds_to_look_through_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(Problem, match=words) as caught, open_audio(io.BytesIO(data), 3600):
        pass
    assert (caught.value.status, caught.value.code) == (400, "not_audio")


def test_as_many_parts_as_any_encoder_writes_are_taken() -> None:
    data = encode(make_tone(440, 16_000, 1), 16_000)
    at = data.index(b"data")
    assert decode(data[:at] + b"junk\0\0\0\0" * 900 + data[at:])[0].frames == 16_000


@pytest.mark.parametrize("kind", ["AIFF", "AU", "CAF", "W64", "RF64"])
def test_other_formats_do_not_reach_the_decoder(kind: str) -> None:
    assert refuse(encode(make_tone(440, 16_000, 1), 16_000, kind)) == (400, "not_audio")


def test_another_format_behind_an_id3_tag_is_refused() -> None:
    aiff = encode(make_tone(440, 16_000, 1), 16_000, "AIFF")
    assert refuse(b"ID3\x04\x00\x00\x00\x00\x00\x0a" + bytes(10) + aiff) == (415, "unsupported_format")


def test_a_file_without_samples_is_refused() -> None:
    for kind in ("WAV", "FLAC"):
        assert refuse(encode(np.empty(0, np.float32), 16_000, kind))[0] == 400


@pytest.mark.parametrize(("name", "kind", "subtype", "_"), FORMATS)
@pytest.mark.parametrize("part", [0.3, 0.9])
def test_a_file_cut_short_is_refused(name: str, kind: str, subtype: str, _: str, part: float, speech: Clip) -> None:
    data = encode(np.tile(speech.samples, 2), 48_000, kind, subtype)
    status, code = refuse(data[: int(len(data) * part)])
    assert status == 400
    assert code in {"truncated", "damaged"}


@pytest.mark.parametrize(("kind", "subtype"), [("FLAC", "PCM_16"), ("OGG", "VORBIS")])
def test_a_damaged_middle_is_refused(kind: str, subtype: str, speech: Clip) -> None:
    data = bytearray(encode(np.tile(speech.samples, 3), 48_000, kind, subtype))
    middle = len(data) // 2
    data[middle : middle + 12_000] = np.random.default_rng(0).bytes(12_000)
    assert refuse(bytes(data)) == (400, "damaged")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", [0, 50_000])
def test_samples_that_are_no_numbers_are_refused(value: float, where: int) -> None:
    samples = np.zeros((60_000, 2), np.float32)
    samples[where, 1] = value
    assert refuse(encode(samples, 16_000, "WAV", "FLOAT")) == (400, "not_finite")


def test_a_small_file_that_lasts_too_long_is_refused_by_what_it_declares() -> None:
    data = encode(np.zeros(16_000 * 600, np.float32), 16_000, "FLAC")
    assert len(data) < 100_000
    assert refuse(data, max_seconds=599) == (413, "too_long")
    assert decode(data, max_seconds=600)[0].seconds == 600


def test_a_small_file_that_lasts_too_long_is_refused_when_it_declares_nothing() -> None:
    data = bytearray(encode(np.zeros(16_000 * 600, np.float32), 16_000, "FLAC"))
    data[21] &= 0xF0  # STREAMINFO: 36 bits of total samples, 0 is unknown
    data[22:26] = bytes(4)
    assert refuse(bytes(data), max_seconds=599) == (413, "too_long")


def test_rates_that_make_no_sense_are_refused() -> None:
    data = bytearray(encode(np.zeros(1000, np.float32), 16_000))
    for rate in (1, 999, 768_001, 2_000_000_000):
        data[24:28] = rate.to_bytes(4, "little")
        assert refuse(bytes(data)) == (400, "unsupported_rate")


def test_memory_does_not_grow_with_length() -> None:
    data = encode(np.zeros(44_100 * 300, np.int16).astype(np.float32), 44_100, "FLAC")
    peaks = []
    for seconds in (30, 300):
        tracemalloc.start()
        with open_audio(io.BytesIO(data), 3600) as audio:
            for _ in audio.blocks():
                if audio.seconds > seconds:
                    break
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] * 1.2
    assert peaks[1] < 16 * 1024 * 1024


@pytest.mark.parametrize(("name", "kind", "subtype", "_"), FORMATS)
def test_random_damage_is_refused_or_decoded_but_never_anything_else(
    name: str, kind: str, subtype: str, _: str, speech: Clip
) -> None:
    rng = np.random.default_rng(7)
    data = encode(speech.samples[: 48_000 * 2], 48_000, kind, subtype)
    for _round in range(60):
        broken = bytearray(data)
        for at in rng.integers(0, len(data) if rng.random() < 0.5 else 200, rng.integers(1, 20)):
            broken[at] = rng.integers(256)
        with contextlib.suppress(Problem):
            found = decode(bytes(broken[: rng.integers(1, len(data) + 1)]), max_seconds=60)[1]
            assert np.isfinite(found).all()
            assert np.abs(found).max() <= 2
