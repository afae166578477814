"""Comparison of two tars: every field, every kind of content, and every single byte."""

from __future__ import annotations

import io
import random
import tarfile
import tracemalloc
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buildkit.errors import BuildError
from buildkit.layers.tar.compare import EACH, compare_tars
from buildkit.layers.tar.content_diff import READ
from buildkit.layers.tar.member import Compression, Member
from buildkit.layers.tar.reader import TarReader
from buildkit.layers.tar.writer import write_layer

Entry = tuple[tarfile.TarInfo, bytes]
SITE = "opt/venv/lib/python3.13/site-packages"
LINES = [f"a/{n}.py,sha256={n},{n}\n" for n in range(5)]


def entry(name: str, data: bytes = b"", **fields: object) -> Entry:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def tar(*entries: Entry, how: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=how) as made:
        for info, data in entries:
            made.addfile(info, io.BytesIO(data))
    return out.getvalue()


def opened(data: bytes, size: int = 700) -> Callable[[], Iterator[bytes]]:
    return lambda: (data[at : at + size] for at in range(0, len(data), size))


def compare(one: bytes, two: bytes, **more: int) -> list[str]:
    return str(compare_tars(opened(one), opened(two, 1 << 20), **more)).splitlines()


def pyc(flags: int = 1, word: bytes = b"HASHHASH", code: bytes = b"\xe3code", magic: int = 3571) -> bytes:
    return magic.to_bytes(2, "little") + b"\r\n" + flags.to_bytes(4, "little") + word + code


def test_equal_tars_have_no_differences() -> None:
    data = tar(entry("a", b"x" * 2000), entry("b/", type=tarfile.DIRTYPE))
    found = compare_tars(opened(data), opened(data, 13))
    assert (found.differences, found.more, str(found)) == ((), (), "")
    assert compare(tar(), tar()) == []


FIELDS = {
    "mtime: 0 (1970-01-01 00:00:00 UTC) ≠ 1700000000 (2023-11-14 22:13:20 UTC)": {"mtime": 1700000000},
    "mtime: 0 (1970-01-01 00:00:00 UTC) ≠ 1.5 (1970-01-01 00:00:01 UTC)": {"mtime": 1.5},
    "mtime: 0 (1970-01-01 00:00:00 UTC) ≠ 99999999999999999": {"mtime": 99999999999999999},
    "mode: 0644 ≠ 0755": {"mode": 0o755},
    "mode: 0644 ≠ 4644": {"mode": 0o4644},
    "uid: 0 ≠ 1000": {"uid": 1000},
    "uid: 0 ≠ 5000000": {"uid": 5000000},
    "gid: 0 ≠ 1000": {"gid": 1000},
    "uname: empty ≠ builder": {"uname": "builder"},
    "gname: empty ≠ builder": {"gname": "builder"},
    "type: file ≠ pipe": {"type": tarfile.FIFOTYPE},
    "pax SCHILY.xattr.user.x: none ≠ y": {"pax_headers": {"SCHILY.xattr.user.x": "y"}},
    "pax atime: none ≠ 12": {"pax_headers": {"atime": "12"}},
}


@pytest.mark.parametrize("says", FIELDS)
def test_differing_field_is_reported(says: str) -> None:
    one = tar(entry("etc/thing"), entry("z"))
    two = tar(entry("etc/thing", **FIELDS[says]), entry("z"))
    assert compare(one, two) == [f"etc/thing: {says}"]


def test_differing_link_and_device_are_reported() -> None:
    one = tar(entry("l", type=tarfile.SYMTYPE, linkname="here"), entry("d", type=tarfile.CHRTYPE, devminor=3))
    two = tar(entry("l", type=tarfile.SYMTYPE, linkname="there"), entry("d", type=tarfile.CHRTYPE, devminor=5))
    assert compare(one, two) == ["l: link: here ≠ there", "d: device: 0:3 ≠ 0:5"]
    long = tar(entry("l", type=tarfile.SYMTYPE, linkname="x" * 300 + "1"))
    other = tar(entry("l", type=tarfile.SYMTYPE, linkname="x" * 300 + "2"))
    assert compare(long, other) == [f"l: link: …{'x' * 20}1 ≠ …{'x' * 20}2"]


def test_member_of_only_one_tar_is_reported_missing() -> None:
    one = tar(entry("a"), entry("b/", type=tarfile.DIRTYPE), entry("c"))
    two = tar(entry("a"), entry("c"), entry("d"), entry("a"))
    assert compare(one, two) == [
        "b: missing: folder ≠ absent",
        "d: missing: absent ≠ file",
        "a (entry 2 of this name): missing: absent ≠ file",
    ]


def test_reordered_members_are_reported_once() -> None:
    names = ("a", "b", "c", "d")
    one = tar(*(entry(name) for name in names))
    assert compare(one, tar(*(entry(name) for name in ("a", "c", "d", "b")))) == ["b: order: after a ≠ after d"]
    assert compare(one, tar(*(entry(name) for name in ("b", "a", "c", "d")))) == ["a: order: the first ≠ after b"]
    # what only one of them has does not disturb the others' order
    assert compare(one, tar(entry("x"), *(entry(name) for name in names))) == ["x: missing: absent ≠ file"]


def test_contents_are_compared_if_the_order_differs() -> None:
    names = ("a", "b", "c", "d")
    one = tar(*(entry(name, f"{name}\none\n".encode()) for name in names))
    two = tar(*(entry(name, f"{name}\ntwo\n".encode()) for name in reversed(names)))
    assert compare(one, two) == [
        *(f"{name}: line 2: 'one\\n' ≠ 'two\\n'" for name in names),
        "a: order: the first ≠ after b",
    ]


def test_differently_written_path_is_the_same_member() -> None:
    assert compare(tar(entry("a/b")), tar(entry("./a/b"))) == ["a/b: name: a/b ≠ ./a/b"]


def test_header_encoding_is_reported_if_all_fields_agree() -> None:
    whole = entry("a", b"x", mtime=7)
    one, two = tar(whole), tar(whole, how=tarfile.GNU_FORMAT)
    assert compare(one, two) == ["a: header: ustar ≠ GNU"]
    long = entry("n" * 200)
    assert compare(tar(long), tar(long, how=tarfile.GNU_FORMAT)) == [
        "n" * 200 + ": header: ustar with pax records ≠ GNU with long name"
    ]
    assert compare(tar(entry("a")), tar(entry("a", type=tarfile.AREGTYPE))) == [
        "a: header, type: b'0' ≠ b'\\x00'",
    ]
    data = bytearray(tar(entry("a")))
    data[100:108] = b"   644 \0"
    _repair(data, 0)
    assert compare(tar(entry("a")), bytes(data)) == ["a: header, mode: b'0000644\\x00' ≠ b'   644 \\x00'"]
    data = bytearray(tar(long))
    data[512 + 210] = 1  # behind the record
    assert compare(tar(long), bytes(data)) == ["n" * 200 + ": header, byte 722: 0x00 ≠ 0x01"]


def test_differing_padding_and_end_are_reported() -> None:
    data = bytearray(tar(entry("a", b"xyz")))
    other = data.copy()
    other[512 + 5] = 0x41
    assert compare(bytes(data), bytes(other)) == ["a: padding: 0x00 at byte 2 ≠ 0x41"]
    assert compare(bytes(data), bytes(data[:2048])) == ["end: 9216 zero bytes ≠ 1024 zero bytes"]
    other = data.copy()
    other[-1] = 1
    assert compare(bytes(other), bytes(data))[0].startswith("end: 9216 bytes, not all zero, of SHA-256 ")


PYCS = {
    "pyc header: magic number 3571 ≠ magic number 3495": pyc(magic=3495),
    "pyc header: unchecked hash ≠ checked hash": pyc(flags=3),
    "pyc header: unchecked hash ≠ time and size": pyc(flags=0),
    "pyc header: unchecked hash ≠ flags 8": pyc(flags=8),
    "pyc header: source hash 4841534848415348 ≠ source hash 3132333435363738": pyc(word=b"12345678"),
    "pyc code, byte 17: 0x63 ≠ 0x78": pyc(code=b"\xe3xode"),
    "pyc code, byte 16, in reference flags only: 0xe3 ≠ 0x63": pyc(code=b"\x63code"),
}


@pytest.mark.parametrize("says", PYCS)
def test_differing_bytecode_is_explained(says: str) -> None:
    path = f"{SITE}/a/__pycache__/x.cpython-313.pyc"
    found = compare(tar(entry(path, pyc())), tar(entry(path, PYCS[says])))
    assert found == [f"{path}: {says}"]


def test_bytecode_with_source_times_is_explained() -> None:
    one, two = (pyc(flags=0, word=n.to_bytes(4, "little") + (9).to_bytes(4, "little")) for n in (5, 6))
    assert compare(tar(entry("x.pyc", one)), tar(entry("x.pyc", two))) == [
        "x.pyc: pyc header: source of time 5, 9 B ≠ source of time 6, 9 B"
    ]
    assert compare(tar(entry("x.pyc", b"short\n")), tar(entry("x.pyc", b"shirt\n"))) == [
        "x.pyc: line 1: 'short\\n' ≠ 'shirt\\n'"
    ]


def test_differing_record_is_explained() -> None:
    path = f"{SITE}/a-1.dist-info/RECORD"

    def explain(*lines: str) -> list[str]:
        found = compare(tar(entry(path, "".join(LINES).encode())), tar(entry(path, "".join(lines).encode())))
        return [line.removeprefix(f"{path}: ") for line in found]

    assert explain(*LINES[:2], LINES[3], LINES[2], LINES[4]) == [
        "RECORD order, from line 3: 'a/2.py,sha256=2,2\\n' ≠ 'a/3.py,sha256=3,3\\n'"
    ]
    assert explain(LINES[1], LINES[0], "a/2.py,sha256=9,2\n", *LINES[3:]) == [
        "RECORD line: 'a/2.py,sha256=2,2\\n' ≠ 'a/2.py,sha256=9,2\\n'"
    ]
    assert explain(*LINES[:3], LINES[4])[-1] == "RECORD line: 'a/3.py,sha256=3,3\\n' ≠ no such line"


def test_differing_text_is_explained_by_line() -> None:
    def explain(one: str, two: str) -> str:
        return compare(tar(entry("t", one.encode())), tar(entry("t", two.encode())))[-1]

    assert explain("same\nold\n", "same\nnew\n") == "t: line 2: 'old\\n' ≠ 'new\\n'"
    assert explain("same\nold\n", "same\n") == "t: line 2: 'old\\n' ≠ no such line"
    assert explain("same\n", "same\r\n") == "t: line 1: 'same\\n' ≠ 'same\\r\\n'"
    assert explain("", "ü") == "t: line 1: no such line ≠ 'ü'"
    assert explain("y" * 500 + "1" + "z" * 500, "y" * 500 + "2" + "z" * 500) == (
        f"t: line 1: '…{'y' * 20}1{'z' * 39}…' ≠ '…{'y' * 20}2{'z' * 39}…'"
    )


def test_differing_binary_content_is_explained_by_byte() -> None:
    one = random.Random(1).randbytes(3000)
    two = one[:2000] + bytes([one[2000] ^ 1]) + one[2001:]
    assert compare(tar(entry("b", one)), tar(entry("b", two))) == [
        f"b: byte 2000: 0x{one[2000]:02x} ≠ 0x{two[2000]:02x}"
    ]
    assert compare(tar(entry("b", one)), tar(entry("b", one[:-1]))) == [
        "b: size: 3000 ≠ 2999",
        "b: byte 2999: more ≠ the end",
    ]


def test_large_content_is_compared_in_a_few_mebibytes() -> None:
    size = 3 * READ

    info = tarfile.TarInfo("big")
    info.size = size
    block = bytes(1 << 16)

    def layer(at: int) -> Callable[[], Iterator[bytes]]:
        def chunks() -> Iterator[bytes]:
            yield info.tobuf(tarfile.USTAR_FORMAT)
            for start in range(0, size, len(block)):
                here = at - start
                yield block if not 0 <= here < len(block) else block[:here] + b"!" + block[here + 1 :]
            yield bytes(1024)

        return chunks

    tracemalloc.start()
    found = compare_tars(layer(size - 1), layer(size - 7))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert str(found) == f"big: byte {size - 7}: 0x00 ≠ 0x21"
    assert peak < READ


def test_many_differences_are_counted_not_listed() -> None:
    count = 100
    one = tar(*(entry(f"{n:03}", b"x" if n % 2 else b"y") for n in range(count)))
    two = tar(*(entry(f"{n:03}", b"z", mtime=5, mode=0o600 if n == 70 else 0o644) for n in range(count)))
    found = compare_tars(opened(one), opened(two))
    assert [d.member for d in found.differences if d.field == "mtime"] == [f"{n:03}" for n in range(EACH)]
    assert [d.member for d in found.differences if d.field == "mode"] == ["070"], "the one that is rare is seen"
    assert len(found.differences) == 2 * EACH + 1
    assert dict(found.more) == {"mtime": count - EACH, "content": count - EACH}
    assert str(found).splitlines()[-2:] == [f"and {count - EACH} more: mtime", f"and {count - EACH} more: content"]


def test_comparison_as_json() -> None:
    one, two = (tar(entry("a", mode=mode), entry("b", mode=mode)) for mode in (0o644, 0))
    assert compare_tars(opened(one), opened(two), each=1).as_json() == {
        "differences": [{"member": "a", "field": "mode", "first": "0644", "second": "0000"}],
        "more": {"mode": 1},
    }


def test_names_that_are_not_utf_8_are_escaped() -> None:
    one = tar(entry("a\udcff", mode=0o600), how=tarfile.GNU_FORMAT)
    two = tar(entry("a\udcff"), entry("a\\xff"), how=tarfile.GNU_FORMAT)
    assert compare(one, two) == ["a\\xff: mode: 0600 ≠ 0644", "a\\xff: missing: absent ≠ file"]
    print(*compare(one, two))  # what cannot be printed would raise


def test_reader_parses_layers_of_the_writer() -> None:
    members = (
        Member(path="app/grüße", size=3, content=lambda: iter((b"abc",))),
        Member(path="app/" + "deep/" * 40 + "x", size=0, content=lambda: iter(())),
        Member(path="app/link", kind="symlink", target="ü"),
    )
    out = io.BytesIO()
    write_layer(members, out, Compression.NONE)
    read = [(h.path.decode(), h.fields["type"], h.fields["link"]) for h in TarReader(opened(out.getvalue())(), "it")]
    folders = [f"app{'/deep' * n}" for n in range(41)]
    assert read == [
        ("app", "folder", ""),
        ("app/grüße", "file", ""),
        *((folder, "folder", "") for folder in folders[1:]),
        (f"{folders[-1]}/x", "file", ""),
        ("app/link", "symbolic link", "ü"),
    ]


def test_base_256_numbers_are_parsed() -> None:
    info = tarfile.TarInfo("a")
    info.uid = 1 << 40
    data = tar((info, b""), entry("b", b"x"), how=tarfile.GNU_FORMAT)
    assert [h.fields["uid"] for h in TarReader(opened(data)(), "it")] == [str(1 << 40), "0"]


def test_further_headers_of_a_sparse_file_are_read() -> None:
    info = tarfile.TarInfo("hole")
    info.type, info.size = tarfile.GNUTYPE_SPARSE, 3
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    block[482] = 1  # two more headers follow, of which each says by one byte whether another does
    data = bytes(block) + bytes(504) + b"\1" + bytes(7) + b"\1" * 504 + bytes(8) + b"abc" + bytes(509)
    repaired = bytearray(data)
    _repair(repaired, 0)
    reader = TarReader(opened(bytes(repaired) + tar(entry("next")))(), "it")
    read = [(header.path, header.fields["type"], b"".join(reader.content())) for header in reader]
    assert read == [(b"hole", "sparse file", b"abc"), (b"next", "file", b"")]


@pytest.mark.parametrize("size", [100, 511, 600, 1100])
def test_truncated_tar_raises_an_error(size: int) -> None:
    data = tar(entry("a", b"x" * 600))
    with pytest.raises(BuildError, match="the second tar is damaged: it ends before"):
        compare(data, data[:size])


WHOLE = tar(
    entry("a", b"hello\n"),
    entry("n" * 150, b"\0\1\2", pax_headers={"SCHILY.xattr.user.x": "y"}),
    entry("l", type=tarfile.SYMTYPE, linkname="a"),
    entry("x.pyc", pyc()),
)[:8192]


@settings(max_examples=400, deadline=None)
@given(at=st.integers(0, len(WHOLE) - 1), bit=st.integers(0, 7))
def test_every_flipped_bit_is_reported(at: int, bit: int) -> None:
    other = bytearray(WHOLE)
    other[at] ^= 1 << bit
    _repair(other, at)
    try:
        differences = compare(WHOLE, bytes(other))
    except BuildError as error:
        differences = [error.message]
    assert differences


def _repair(data: bytearray, at: int) -> None:
    """Set the checksum of the header that ``at`` lies in, if it is one: without, every change there is damage."""
    start = at // 512 * 512
    block = data[start : start + 512]
    if block[257:262] == b"ustar" and not 148 <= at - start < 156:
        total = sum(block[:148]) + sum(block[156:]) + 8 * 32
        data[start + 148 : start + 156] = b"%06o\0 " % total
