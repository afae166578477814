"""Parsing of ELF files: made by a real linker, crafted, and corrupted."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit.native.collector import NativeCollector
from buildkit.native.elf import Elf, ElfError, Read, parse_elf
from buildkit.native.elf_stream import FRONT, ElfStream
from tests.native.elfmaker import AARCH64, I386, X86_64, make_elf

FULL = {
    "needed": ("libc.so.6", "libm.so.6"),
    "soname": "libx.so.1",
    "runpath": "$ORIGIN/../lib:/opt/lib",
    "interpreter": "/lib64/ld-linux-x86-64.so.2",
    "needs": (("libc.so.6", ("GLIBC_2.2.5", "GLIBC_2.34")), ("libm.so.6", ("GLIBC_2.29",))),
    "defines": ("X_1", "X_2"),
}


def reader(data: bytes) -> Read:
    return lambda offset, count: data[offset : offset + count]


def passed(data: bytes, step: int, most: int = 1 << 30) -> Elf:
    passing = ElfStream(most)
    for at in range(0, len(data), step):
        passing.add(data[at : at + step])
    return passing.finish()


@pytest.mark.parametrize(
    ("machine", "bits", "big"), [(X86_64, 64, False), (I386, 32, False), (22, 64, True), (20, 32, True)]
)
def test_all_linker_fields_are_parsed_for_each_class_and_byte_order(machine: int, bits: int, big: bool) -> None:
    elf = parse_elf(reader(make_elf(machine=machine, bits=bits, big=big, **FULL)))
    assert elf == Elf(
        machine=machine,
        bits=bits,
        kind=3,
        soname="libx.so.1",
        interpreter="/lib64/ld-linux-x86-64.so.2",
        needed=("libc.so.6", "libm.so.6"),
        runpath=("$ORIGIN/../lib", "/opt/lib"),
        versions=FULL["needs"],  # type: ignore[arg-type]
        defines=("X_1", "X_2"),
    )


def test_weak_versions_are_not_required() -> None:
    elf = parse_elf(reader(make_elf(needs=(("libc.so.6", ("GLIBC_2.2.5", "GLIBC_ABI_X")),), weak=("GLIBC_ABI_X",))))
    assert elf.versions == (("libc.so.6", ("GLIBC_2.2.5",)),)


def test_static_file_needs_nothing() -> None:
    head = bytearray(make_elf()[:64])
    head[56:58] = b"\0\0"  # no program headers
    assert parse_elf(reader(bytes(head))) == Elf(machine=X86_64, bits=64, kind=3)


def test_running_interpreter_is_parsed_like_the_machine() -> None:
    data = Path(sys.executable).resolve().read_bytes()
    elf = parse_elf(reader(data))
    assert Path(elf.interpreter).exists()
    assert "libc.so.6" in elf.needed
    assert elf == passed(data, 1 << 16)


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("step", [1000, 1 << 16, 1 << 20])
def test_streamed_file_parses_like_a_whole_file(late: bool, step: int) -> None:
    data = make_elf(before=300_000, after=3_000_000, late=late, **FULL)
    assert passed(data, step) == parse_elf(reader(data))


def test_only_needed_parts_of_a_large_file_are_kept() -> None:
    passing = ElfStream()
    data = make_elf(before=100_000, **FULL)
    passing.add(data)
    for _ in range(100):
        passing.add(bytes(1 << 20))
    assert sum(map(len, passing._parts)) < 2 << 20
    assert passing.finish() == parse_elf(reader(data))


def test_names_before_more_code_than_the_limit_are_found() -> None:
    data = make_elf(between=3 << 20, **FULL)
    assert passed(data, 1 << 16, most=1 << 20) == parse_elf(reader(data))


@pytest.mark.parametrize(
    ("shape", "times"),
    [
        ({"before": 100_000, "between": 3 << 20}, 1),  # the names are in the front that is kept
        ({"before": 5 << 20, "between": 3 << 20}, 2),  # they are not, but before the dynamic section
        ({"before": 5 << 20, "between": 3 << 20, "late": True}, 1),  # they follow it
        ({"before": 5 << 20, "after": 9 << 20}, 1),
    ],
)
def test_file_that_can_be_read_again_is_not_kept(shape: dict[str, int], times: int) -> None:
    """Of a gigabyte before the dynamic section, 64 MB were kept: with several at once, a third of the memory."""
    data, kept, opened, read = make_elf(**shape, **FULL), [0], [0], [0]

    def chunks() -> Iterator[bytes]:
        opened[0] += 1
        for at in range(0, len(data), 1 << 16):
            read[0] += 1 << 16
            yield data[at : at + (1 << 16)]
            kept[0] = max(kept[0], sum(map(len, streams[-1]._parts)))

    class Watched(ElfStream):
        def __init__(self, *arguments: int) -> None:
            super().__init__(*arguments)
            streams.append(self)

    streams: list[ElfStream] = []
    collector = NativeCollector()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("buildkit.native.collector.ElfStream", Watched)
        assert b"".join(collector.tee_file("x.so", chunks(), again=chunks)) == data
    assert collector.facts().files == {"x.so": parse_elf(reader(data))}
    assert kept[0] <= FRONT + (1 << 17)
    assert opened[0] == times
    assert read[0] <= len(data) + (times - 1) * shape["before"] + (1 << 20), "no more is read again than is needed"


def test_headers_at_an_unexpected_place_are_found_by_reading_again() -> None:
    data = make_elf(before=5 << 20, **FULL)
    moved = data + bytes(-len(data) % 8)
    offset = int.from_bytes(data[32:40], "little")
    size, count = int.from_bytes(data[54:56], "little"), int.from_bytes(data[56:58], "little")
    moved += data[offset : offset + size * count]
    moved = moved[:32] + (len(moved) - size * count).to_bytes(8, "little") + moved[40:]
    collector, chunks = NativeCollector(), [moved[at : at + (1 << 16)] for at in range(0, len(moved), 1 << 16)]
    whole = ElfStream()
    for chunk in chunks:
        whole.add(chunk)
    assert b"".join(collector.tee_file("x.so", chunks, again=lambda: chunks)) == moved
    assert collector.facts().files == {"x.so": whole.finish()}


def test_names_between_more_code_than_the_limit_raise_an_error() -> None:
    data = make_elf(before=2 << 20, between=3 << 20, **FULL)
    assert passed(data, 1 << 16) == parse_elf(reader(data))
    with pytest.raises(ElfError, match="its parts are not where its headers say"):
        passed(data, 1 << 16, most=1 << 20)


def test_huge_declared_string_table_does_not_fill_memory() -> None:
    data = make_elf(after=6 << 20, late=True, **FULL)
    size = data.index((10).to_bytes(8, "little")) + 8  # DT_STRSZ
    with pytest.raises(ElfError, match="spread over more than"):
        passed(cut(data, size, (1 << 40).to_bytes(8, "little")), 1 << 16, most=1 << 20)


def cut(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\x7fELF", "unknown class or byte order"),
        (make_elf()[:63], "ends early"),
        (make_elf()[:100], "ends early"),
        (cut(make_elf(), 4, b"\x07"), "unknown class or byte order"),
        (cut(make_elf(), 56, b"\xff\xff"), "segments"),
        (cut(make_elf(needed=("libc.so.6",)), 64 + 8 * 4, bytes(8)), "in none of its segments"),
    ],
)
def test_damaged_file_raises_an_error_with_the_reason(data: bytes, why: str) -> None:
    with pytest.raises(ElfError, match=why):
        parse_elf(reader(data))


def test_unterminated_name_is_refused() -> None:
    data = make_elf(needed=("a" * 5000,))
    with pytest.raises(ElfError, match="is not terminated"):
        parse_elf(reader(data))


@st.composite
def bent(draw: st.DrawFn) -> bytes:
    """A real file with bytes changed where its numbers are, or cut off."""
    data = bytearray(make_elf(bits=draw(st.sampled_from((32, 64))), late=draw(st.booleans()), **FULL))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(4, len(data) - 1))
        new = draw(st.sampled_from((b"\0", b"\xff", b"\xff" * 4, b"\xff" * 8, b"\x01", b"\x7f" * 8)))
        data[at : at + len(new)] = new
    return bytes(data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data)


@given(bent())
def test_corrupted_content_parses_or_raises_elf_error(data: bytes) -> None:
    results: list[object] = []
    for way in (lambda: parse_elf(reader(data)), lambda: passed(data, 97)):
        try:
            results.append(way())
        except ElfError as error:
            results.append(type(error))
    if all(isinstance(one, Elf) for one in results):
        assert results[0] == results[1]


@given(st.binary(max_size=400))
def test_noise_after_the_magic_parses_or_raises_elf_error(noise: bytes) -> None:
    try:
        parse_elf(reader(b"\x7fELF" + noise))
    except ElfError:
        return


def test_architecture_is_formatted_for_people() -> None:
    assert parse_elf(reader(make_elf(machine=AARCH64))).architecture == "aarch64, 64 bits"
    assert parse_elf(reader(make_elf(machine=4711, bits=32))).architecture == "machine 4711, 32 bits"
