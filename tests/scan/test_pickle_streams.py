"""Consecutive and broken pickles, and the files of PyTorch, joblib and NumPy that contain them."""

import collections
import datetime as dt
import decimal
import fractions
import io
import pathlib
import pickle
import struct
import uuid

import numpy as np
import pytest

from buildkit.scan import BytesSource, Verdict
from buildkit.scan.pickle.recognise import is_pickle
from tests.scan.pickler import (
    EVIL,
    PROTO,
    call,
    data,
    describe,
    malicious_pickle,
    named,
    number,
    pickle_stream,
    rules,
    scan_bytes,
    text,
    tuple_of,
)

MAGIC = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"
HONEST = {
    "plain": {"a": [1, 2.5, "x", None, True], "b": (1, (2, 3)), "c": b"\x80\x04abc", "d": {1, 2}, "e": frozenset("ab")},
    "numbers": [10**50, -(10**50), 1j, 2**31, -1, float("inf")],
    "time": [dt.datetime(2026, 1, 2, tzinfo=dt.UTC), dt.timedelta(1), dt.date(2026, 1, 1)],
    "containers": [collections.OrderedDict(a=1), collections.defaultdict(list, a=[1]), collections.Counter("ab")],
    "others": [
        decimal.Decimal("1.5"),
        fractions.Fraction(1, 3),
        uuid.UUID(int=5),
        range(3),
        slice(1, 2),
        bytearray(b"x"),
    ],
    "paths": [pathlib.PurePosixPath("/a/b")],
    "long": ["x" * 100_000, b"y" * 300_000, list(range(5000)), {str(i): i for i in range(3000)}],
    "arrays": {"a": np.arange(12.0).reshape(3, 4), "f": np.asfortranarray(np.eye(4)), "s": np.float32(1.5)},
    "more arrays": [np.array([1, "a", None], dtype=object), np.array(["ab", "c"]), np.dtype("f4"), np.ma.array([1, 2])],
    "structures": np.zeros(3, dtype=[("x", "f4"), ("y", "U5")]),
    "random states": [np.random.RandomState(1), np.random.default_rng(1)],
}


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", HONEST)
def test_ordinary_pickle_is_clean(name, protocol):
    found = scan_bytes(pickle.dumps(HONEST[name], protocol=protocol))
    assert found.verdict is Verdict.CLEAN, describe(found)
    assert found.formats[0] == "pickle"


def test_many_consecutive_pickles_are_clean():
    content = b"".join(pickle.dumps({"step": i}, protocol=i % 6) for i in range(100))
    assert scan_bytes(content).verdict is Verdict.CLEAN


@pytest.mark.parametrize("before", [1, 3, 70])
def test_second_pickle_of_file_is_scanned(before):
    content = b"".join(pickle.dumps([i], protocol=i % 6) for i in range(before))
    found = scan_bytes(content + malicious_pickle())
    assert "pickle-runs-code" in rules(found)
    assert found.findings[0].offset == len(content) + 2


def test_bytes_after_pickle_are_scanned_or_a_gap():
    assert scan_bytes(pickle.dumps([1]) + b"\xfe\xdc\xba" * 9).verdict is Verdict.PARTIAL
    assert scan_bytes(pickle.dumps([1]) + bytes(100)).verdict is Verdict.CLEAN


@pytest.mark.parametrize("cut", range(3, 40))
def test_truncated_pickle_is_never_clean(cut):
    content = pickle.dumps({"a": [1, 2, 3], "b": "some text", "c": b"some bytes"})
    assert scan_bytes(content[:cut]).verdict is Verdict.PARTIAL


def test_call_before_pickle_breaks_is_found():
    for end in (b"\xff", b"", b"X\xff\xff\xff\xff", b"\x8d" + b"\xff" * 8, b"g99\n.", b"R.", b"\x93."):
        found = scan_bytes(PROTO + EVIL + end)
        assert "pickle-runs-code" in rules(found), end
        assert found.gaps or end in (b"R.", b"\x93."), end


@pytest.mark.parametrize(
    "plain",
    [
        b"cat\ndog\nRun\n", b"(int)\n", b"I have a dream\n", b"Va\nVb\nVc\n", b"N", b".", b"", b"\n", b"numpy\nscipy\n",
        b"import os\nos.system('id')\n", b"{}", b"[1, 2]", b"# config\n", b"\x80", b"\x80\x26N.",
    ],
)  # fmt: skip
def test_text_is_not_recognised_as_pickle(plain):
    assert not any(one.rule.id.startswith("pickle") for one in scan_bytes(plain).findings)
    assert "pickle" not in scan_bytes(plain).formats


def storage(key: str = "0", count: int = 4) -> bytes:
    """Push a persistent tensor."""
    kind = named("torch", "FloatStorage")
    return tuple_of(text("storage"), kind, text(key), text("cpu"), number(count)) + b"Q"


def tensor(key: str = "0", count: int = 4) -> bytes:
    """Push a tensor as torch pickles it."""
    hooks = call(named("collections", "OrderedDict"))
    args = (storage(key, count), number(0), tuple_of(number(count)), tuple_of(number(1)), b"\x89", hooks)
    return call(named("torch._utils", "_rebuild_tensor_v2"), *args)


def legacy(body: bytes, *, keys: int = 1, raw: bytes = struct.pack("<q4f", 4, 1, 2, 3, 4)) -> bytes:
    """A file of PyTorch's legacy format."""
    names = pickle_stream(b"](" + b"".join(text(str(key)) for key in range(keys)) + b"e")
    return pickle_stream(MAGIC) + pickle_stream(b"M\xe9\x03") + pickle_stream(b"}") + pickle_stream(body) + names + raw


def test_legacy_pytorch_file_is_clean():
    found = scan_bytes(legacy(b"}" + text("w") + tensor() + b"s"))
    assert found.verdict is Verdict.CLEAN, describe(found)
    assert found.formats == ("pickle", "PyTorch, legacy")


def test_tensor_numbers_that_look_like_a_pickle_are_clean():
    raw = struct.pack("<q", 4) + b"\x80\x02\x8a\x0a" + bytes(12)
    assert scan_bytes(legacy(tensor(), raw=raw)).verdict is Verdict.CLEAN


def test_bytes_beyond_legacy_pytorch_storages_are_scanned():
    raw = struct.pack("<q4f", 4, 1, 2, 3, 4)
    assert scan_bytes(legacy(tensor(), raw=raw[:-1])).verdict is Verdict.PARTIAL
    assert scan_bytes(legacy(tensor(), raw=raw + b"\xfe\xdc\xba\x98")).verdict is Verdict.PARTIAL
    assert "pickle-runs-code" in rules(scan_bytes(legacy(tensor(), raw=raw + malicious_pickle())))


def test_code_is_found_in_every_legacy_pytorch_stream():
    assert "pickle-runs-code" in rules(scan_bytes(legacy(b"}" + text("w") + EVIL + b"s")))
    assert "pickle-runs-code" in rules(scan_bytes(malicious_pickle() + legacy(tensor())))
    magic = pickle_stream(call(named("builtins", "eval"), text("0x1950a86a20f9469cfc6c")))
    assert "pickle-runs-code" in rules(scan_bytes(magic + legacy(tensor())[len(pickle_stream(MAGIC)) :]))


def test_legacy_layer_class_as_persistent_id_is_followed():
    layer = tuple_of(text("module"), named("torch.nn.modules.linear", "Linear"), text("x.py"), text("class X")) + b"Q"
    assert scan_bytes(legacy(layer + b")\x81}b" + b"0" + tensor())).verdict is Verdict.CLEAN
    bad = tuple_of(text("module"), named("os", "system"), text("x.py"), text("")) + b"Q"
    assert "pickle-runs-code" in rules(scan_bytes(legacy(bad + text("id") + b"\x85R" + b"0" + tensor())))


def test_foreign_persistent_id_is_a_note():
    found = scan_bytes(pickle_stream(text("my-id") + b"Q"))
    assert (found.verdict, rules(found)) == (Verdict.CLEAN, {"pickle-foreign-persistent-id"})


def dtype(name: str, flags: int = 0, size: int = -1) -> bytes:
    """Push a dtype as NumPy pickles it."""
    made = call(named("numpy", "dtype"), text(name), b"\x89", b"\x88")
    return made + tuple_of(number(3), text("<"), b"N", b"N", b"N", number(size), number(-1), number(flags)) + b"b"


def wrapper(kind: bytes, shape: bytes, padding: int | None = 16, *, mapped: bool = True) -> bytes:
    """Push joblib's announcement of an array, which a loader may map as memory."""
    aligned = b"N" if padding is None else number(padding)
    state = {
        "subclass": named("numpy", "ndarray"),
        "shape": shape,
        "order": text("C"),
        "dtype": kind,
        "allow_mmap": b"\x88" if mapped else b"\x89",
    }
    state["numpy_array_alignment_bytes"] = aligned
    pairs = b"".join(text(key) + value for key, value in state.items())
    return named("joblib.numpy_pickle", "NumpyArrayWrapper") + b")\x81}(" + pairs + b"ub"


def joblib(kind: str, items: bytes, *, count: int, behind: bytes = b"", **how: int) -> bytes:
    """A joblib file of a list with one array."""
    return (
        PROTO
        + b"]"
        + wrapper(dtype(kind, **how), tuple_of(number(count)))
        + b"\x03\xff\xff\xff"
        + items
        + behind
        + b"a."
    )


@pytest.mark.parametrize("items", [bytes(24), b"\x80\x02cos\nsys\x80\x02cos\nsys.", b"." * 24, b"\xff" * 24])
def test_joblib_array_is_skipped(items):
    found = scan_bytes(joblib("f8", items, count=3))
    assert (found.verdict, describe(found)) == (Verdict.CLEAN, "") or b"cos" in items


def test_content_after_joblib_array_is_scanned():
    assert "pickle-runs-code" in rules(scan_bytes(joblib("f8", bytes(24), count=3, behind=EVIL + b"0")))
    assert "pickle-runs-code" in rules(scan_bytes(joblib("V12", bytes(36), count=3, size=12, behind=EVIL + b"0")))
    assert "pickle-runs-code" in rules(scan_bytes(joblib("U2", bytes(24), count=3, size=8, behind=EVIL + b"0")))


def test_opcodes_in_joblib_array_are_found():
    """``pickle.load`` takes the array's bytes for opcodes; ``joblib.load`` does not."""
    items = (b"0" + EVIL + b".").ljust(80, b"\xff")
    content = PROTO + b"]" + wrapper(dtype("f8"), tuple_of(number(10)), None) + items + b"a."
    assert "pickle-runs-code" in rules(scan_bytes(content))


def test_numbers_that_begin_like_a_text_are_no_stream_that_goes_on_behind_the_array():
    """As in one of 150 perceptrons of scikit-learn: the text ends in the stream, where globals are named."""
    remembered = named("collections", "OrderedDict") + b"q\x000"
    array = wrapper(dtype("f8"), tuple_of(number(4))) + b"\x03\xff\xff\xff" + b"\x8cb".ljust(32, b"\xbf")
    behind = b"\x8c\x42" + b"x" * 66 + b"0" + named("numpy", "ndarray") + b"0h\x00)R}b0"
    found = scan_bytes(PROTO + b"]" + remembered + array + behind + b"a.")
    assert (found.verdict, describe(found)) == (Verdict.CLEAN, "")


@pytest.mark.parametrize(
    ("padding", "reached"), [(b"\x03\xff\xff\xff", False), (b"N" + b"0N" * 39, True)], ids=["joblib", "opcodes"]
)
def test_array_that_pickle_load_reaches_through_its_padding_is_followed_to_its_end(padding, reached):
    """The count of the padding is an opcode, and the numbers are a text that ends in the next constant."""
    array = wrapper(dtype("f8"), tuple_of(number(4))) + padding + b"\x80\x04\x8c\x1e".ljust(32, b"A")
    constant = b"C\x06\x82\x01)R0."
    found = scan_bytes(PROTO + b"]" + array + constant + b"0a.")
    assert ("pickle-extension-code" in rules(found)) is reached


@pytest.mark.parametrize(("kind", "flags"), [("O8", 63), ("V16", 27)])
def test_objects_in_joblib_array_are_scanned(kind, flags):
    array = wrapper(dtype(kind, flags), tuple_of(number(1)), mapped=False)
    good = PROTO + b"]" + array + pickle.dumps([None]) + b"a."
    assert rules(scan_bytes(good)) <= {"pickle-false-dtype"}  # this V16 has no fields that could be objects
    assert not scan_bytes(good).gaps
    bad = scan_bytes(PROTO + b"]" + array + malicious_pickle() + b"a.")
    assert "pickle-runs-code" in rules(bad)
    assert not bad.gaps


@pytest.mark.parametrize(("kind", "flags"), [("O8", 63), ("V16", 27)])
def test_objects_that_joblib_would_map_are_not_fully_scanned(kind, flags):
    """`joblib.load(mmap_mode=…)` skips eight bytes of the pickle, and goes on in its constant."""
    array = wrapper(dtype(kind, flags), tuple_of(number(1)), None)
    found = scan_bytes(PROTO + b"]" + array + pickle.dumps([b"aN0N0N0."]) + b"a.")
    assert found.verdict is not Verdict.CLEAN
    assert "mapped" in describe(found)


def test_joblib_array_of_unknown_length_is_a_gap():
    unknown = PROTO + b"]" + wrapper(call(named("numpy", "dtype"), b"N"), tuple_of(number(3))) + bytes(30) + b"a."
    assert scan_bytes(unknown).verdict is Verdict.PARTIAL
    assert scan_bytes(joblib("f8", bytes(8), count=2**30)).verdict is Verdict.PARTIAL


def test_joblib_array_with_contradictory_length_is_a_gap():
    """A reader that believed the other length would find other opcodes behind it."""
    assert scan_bytes(joblib("f8", bytes(24), count=3, size=1)).verdict is Verdict.PARTIAL
    assert scan_bytes(joblib("V12", bytes(36), count=3, size=4)).verdict is Verdict.PARTIAL
    many = b"".join(text(f"k{i}") + b"N" for i in range(70)) + text("shape") + tuple_of(number(0))
    array = wrapper(dtype("f8"), tuple_of(number(3)))[:-2] + many + b"ub"
    assert scan_bytes(PROTO + b"]" + array + b"\x00" + bytes(24) + b"a.").verdict is Verdict.PARTIAL


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


@pytest.mark.parametrize(
    "array",
    [np.eye(5), np.array([[1, 2]], dtype=">i2"), np.array(["abc", "d"]), np.zeros(3, dtype=[("a", "f4"), ("b", "O")]),
     np.array([{"a": 1}, None], dtype=object), np.zeros(0), np.array(5.0), np.array(["2026-01-01"], dtype="M8[D]")],
)  # fmt: skip
def test_numpy_array_is_clean(array):
    found = scan_bytes(npy(array))
    assert found.verdict is Verdict.CLEAN, describe(found)
    assert found.formats[0] == "NumPy array"


def test_objects_in_numpy_array_are_scanned():
    whole_file = npy(np.array([1, 2], dtype=object))
    header = whole_file[: whole_file.index(b"\n") + 1]
    found = scan_bytes(header + malicious_pickle())
    assert "pickle-runs-code" in rules(found)
    assert found.findings[0].member == "objects"
    fields = npy(np.zeros(1, dtype=[("a", "f4"), ("b", "O")]))
    assert "pickle-runs-code" in rules(scan_bytes(fields[: fields.index(b"\n") + 1] + malicious_pickle()))


def test_numpy_array_with_false_header_is_not_clean():
    plain = npy(np.eye(3))
    assert scan_bytes(plain[:-1]).verdict is Verdict.PARTIAL
    assert scan_bytes(plain + npy(np.eye(2))).verdict is Verdict.CLEAN
    assert "pickle-runs-code" in rules(scan_bytes(plain + malicious_pickle()))
    deep = b"(" * 5000 + b")" * 5000
    bent = b"\x93NUMPY\x02\x00" + struct.pack("<I", len(deep)) + deep
    assert scan_bytes(bent).verdict is Verdict.PARTIAL
    assert scan_bytes(b"\x93NUMPY\x03\x00\xff\xff\xff\xff").verdict is Verdict.PARTIAL
    numbers = plain[: plain.index(b"\n") + 1] + malicious_pickle().ljust(72, b"\0")
    assert "pickle-runs-code" in rules(scan_bytes(numbers))


def test_data_that_begins_like_an_archive_is_clean():
    for start in (b"PK\x03\x04", b"\x1f\x8b\x08\x00", b"BZh9", b"7z\xbc\xaf", b"\x80\x04"):
        assert scan_bytes(pickle_stream(data(start + b"\xfe\xdc\xba" * 20))).verdict is Verdict.CLEAN, start


@pytest.mark.parametrize("rest", [b"", b"\n", b"text\n"])
def test_whole_stream_that_calls_is_a_pickle_whatever_its_names_and_what_follows(rest):
    found = scan_bytes(b"cevil-module\nrun\n(tR." + rest)
    assert "pickle-unknown-global" in rules(found), describe(found)
    assert "pickle" not in scan_bytes(b"cevil-module\nrun\n." + b"text\n").formats


def test_numbers_that_look_like_a_computed_global_are_numbers():
    """`STACK_GLOBAL` of two numbers: seen in a gradient boosting's trees, of which every training writes other ones."""
    chance = b"K\x01K\x02\x93K\x05\x85R."
    assert is_pickle(BytesSource(chance + b"\x00" * 40), nested=True)
    assert not is_pickle(BytesSource(chance + b"\x00" * 40), nested=True, numbers=True)
    assert is_pickle(BytesSource(b"cposix\nsystem\n(X\x02\x00\x00\x00idtR."), nested=True, numbers=True)
