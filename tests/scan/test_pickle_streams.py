"""Pickles behind each other, broken ones, and the files of PyTorch, joblib and NumPy that hold them."""

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
from tests.scan.pickler import EVIL, PROTO, call, data, evil, look, named, number, rules, said, text, tuple_of, whole

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
def test_honest_pickles_are_clean(name, protocol):
    found = look(pickle.dumps(HONEST[name], protocol=protocol))
    assert found.verdict is Verdict.CLEAN, said(found)
    assert found.formats[0] == "pickle"


def test_many_honest_pickles_behind_each_other_are_clean():
    content = b"".join(pickle.dumps({"step": i}, protocol=i % 6) for i in range(100))
    assert look(content).verdict is Verdict.CLEAN


@pytest.mark.parametrize("before", [1, 3, 70])
def test_the_second_pickle_of_a_file_is_scanned(before):
    content = b"".join(pickle.dumps([i], protocol=i % 6) for i in range(before))
    found = look(content + evil())
    assert "pickle-runs-code" in rules(found)
    assert found.findings[0].offset == len(content) + 2


def test_what_lies_behind_a_pickle_is_scanned_or_a_gap():
    assert look(pickle.dumps([1]) + b"\xfe\xdc\xba" * 9).verdict is Verdict.PARTIAL
    assert look(pickle.dumps([1]) + bytes(100)).verdict is Verdict.CLEAN


@pytest.mark.parametrize("cut", range(3, 40))
def test_a_cut_pickle_is_never_clean(cut):
    content = pickle.dumps({"a": [1, 2, 3], "b": "some text", "c": b"some bytes"})
    assert look(content[:cut]).verdict is Verdict.PARTIAL


def test_what_ran_before_a_pickle_breaks_is_found():
    for end in (b"\xff", b"", b"X\xff\xff\xff\xff", b"\x8d" + b"\xff" * 8, b"g99\n.", b"R.", b"\x93."):
        found = look(PROTO + EVIL + end)
        assert "pickle-runs-code" in rules(found), end
        assert found.gaps or end in (b"R.", b"\x93."), end


@pytest.mark.parametrize(
    "plain",
    [
        b"cat\ndog\nRun\n", b"(int)\n", b"I have a dream\n", b"Va\nVb\nVc\n", b"N", b".", b"", b"\n", b"numpy\nscipy\n",
        b"import os\nos.system('id')\n", b"{}", b"[1, 2]", b"# config\n", b"\x80", b"\x80\x06N.",
    ],
)  # fmt: skip
def test_text_is_no_pickle(plain):
    assert not any(one.rule.id.startswith("pickle") for one in look(plain).findings)
    assert "pickle" not in look(plain).formats


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
    names = whole(b"](" + b"".join(text(str(key)) for key in range(keys)) + b"e")
    return whole(MAGIC) + whole(b"M\xe9\x03") + whole(b"}") + whole(body) + names + raw


def test_legacy_pytorch_is_clean_with_its_numbers():
    found = look(legacy(b"}" + text("w") + tensor() + b"s"))
    assert found.verdict is Verdict.CLEAN, said(found)
    assert found.formats == ("pickle", "PyTorch, legacy")


def test_numbers_of_a_tensor_may_look_like_a_pickle():
    raw = struct.pack("<q", 4) + b"\x80\x02\x8a\x0a" + bytes(12)
    assert look(legacy(tensor(), raw=raw)).verdict is Verdict.CLEAN


def test_legacy_pytorch_is_accounted_for_to_the_last_byte():
    raw = struct.pack("<q4f", 4, 1, 2, 3, 4)
    assert look(legacy(tensor(), raw=raw[:-1])).verdict is Verdict.PARTIAL
    assert look(legacy(tensor(), raw=raw + b"\xfe\xdc\xba\x98")).verdict is Verdict.PARTIAL
    assert "pickle-runs-code" in rules(look(legacy(tensor(), raw=raw + evil())))


def test_legacy_pytorch_with_code_is_found_in_every_stream():
    assert "pickle-runs-code" in rules(look(legacy(b"}" + text("w") + EVIL + b"s")))
    assert "pickle-runs-code" in rules(look(evil() + legacy(tensor())))
    magic = whole(call(named("builtins", "eval"), text("0x1950a86a20f9469cfc6c")))
    assert "pickle-runs-code" in rules(look(magic + legacy(tensor())[len(whole(MAGIC)) :]))


def test_layers_of_a_legacy_model_are_ids():
    layer = tuple_of(text("module"), named("torch.nn.modules.linear", "Linear"), text("x.py"), text("class X")) + b"Q"
    assert look(legacy(layer + b")\x81}b" + b"0" + tensor())).verdict is Verdict.CLEAN
    bad = tuple_of(text("module"), named("os", "system"), text("x.py"), text("")) + b"Q"
    assert "pickle-runs-code" in rules(look(legacy(bad + text("id") + b"\x85R" + b"0" + tensor())))


def test_ids_of_others_are_a_note():
    found = look(whole(text("my-id") + b"Q"))
    assert (found.verdict, rules(found)) == (Verdict.CLEAN, {"pickle-foreign-persistent-id"})


def dtype(name: str, flags: int = 0, size: int = -1) -> bytes:
    """Push a dtype as NumPy pickles it."""
    made = call(named("numpy", "dtype"), text(name), b"\x89", b"\x88")
    return made + tuple_of(number(3), text("<"), b"N", b"N", b"N", number(size), number(-1), number(flags)) + b"b"


def wrapper(kind: bytes, shape: bytes, padding: int | None = 16) -> bytes:
    """Push joblib's announcement of an array."""
    aligned = b"N" if padding is None else number(padding)
    state = {
        "subclass": named("numpy", "ndarray"),
        "shape": shape,
        "order": text("C"),
        "dtype": kind,
        "allow_mmap": b"\x88",
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
def test_joblibs_arrays_are_passed_over(items):
    found = look(joblib("f8", items, count=3))
    assert (found.verdict, said(found)) == (Verdict.CLEAN, "") or b"cos" in items


def test_what_follows_joblibs_array_is_scanned():
    assert "pickle-runs-code" in rules(look(joblib("f8", bytes(24), count=3, behind=EVIL + b"0")))
    assert "pickle-runs-code" in rules(look(joblib("V12", bytes(36), count=3, size=12, behind=EVIL + b"0")))
    assert "pickle-runs-code" in rules(look(joblib("U2", bytes(24), count=3, size=8, behind=EVIL + b"0")))


def test_what_pickle_load_would_run_in_joblibs_array_is_found():
    """``pickle.load`` takes the array's bytes for opcodes; ``joblib.load`` does not."""
    items = (b"0" + EVIL + b".").ljust(80, b"\xff")
    content = PROTO + b"]" + wrapper(dtype("f8"), tuple_of(number(10)), None) + items + b"a."
    assert "pickle-runs-code" in rules(look(content))


@pytest.mark.parametrize(("kind", "flags"), [("O8", 63), ("V16", 27)])
def test_objects_of_joblibs_arrays_are_scanned(kind, flags):
    array = wrapper(dtype(kind, flags), tuple_of(number(1)))
    good = PROTO + b"]" + array + pickle.dumps([None]) + b"a."
    assert look(good).verdict is Verdict.CLEAN, said(look(good))
    bad = look(PROTO + b"]" + array + evil() + b"a.")
    assert "pickle-runs-code" in rules(bad)
    assert not bad.gaps


def test_joblibs_array_of_unknown_length_is_a_gap():
    unknown = PROTO + b"]" + wrapper(call(named("numpy", "dtype"), b"N"), tuple_of(number(3))) + bytes(30) + b"a."
    assert look(unknown).verdict is Verdict.PARTIAL
    assert look(joblib("f8", bytes(8), count=2**30)).verdict is Verdict.PARTIAL


def test_joblibs_array_with_two_lengths_is_a_gap():
    """A reader that believed the other length would find other opcodes behind it."""
    assert look(joblib("f8", bytes(24), count=3, size=1)).verdict is Verdict.PARTIAL
    assert look(joblib("V12", bytes(36), count=3, size=4)).verdict is Verdict.PARTIAL
    many = b"".join(text(f"k{i}") + b"N" for i in range(70)) + text("shape") + tuple_of(number(0))
    array = wrapper(dtype("f8"), tuple_of(number(3)))[:-2] + many + b"ub"
    assert look(PROTO + b"]" + array + b"\x00" + bytes(24) + b"a.").verdict is Verdict.PARTIAL


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


@pytest.mark.parametrize(
    "array",
    [np.eye(5), np.array([[1, 2]], dtype=">i2"), np.array(["abc", "d"]), np.zeros(3, dtype=[("a", "f4"), ("b", "O")]),
     np.array([{"a": 1}, None], dtype=object), np.zeros(0), np.array(5.0), np.array(["2026-01-01"], dtype="M8[D]")],
)  # fmt: skip
def test_numpys_arrays_are_clean(array):
    found = look(npy(array))
    assert found.verdict is Verdict.CLEAN, said(found)
    assert found.formats[0] == "NumPy array"


def test_objects_of_numpys_arrays_are_scanned():
    whole_file = npy(np.array([1, 2], dtype=object))
    header = whole_file[: whole_file.index(b"\n") + 1]
    found = look(header + evil())
    assert "pickle-runs-code" in rules(found)
    assert found.findings[0].member == "objects"
    fields = npy(np.zeros(1, dtype=[("a", "f4"), ("b", "O")]))
    assert "pickle-runs-code" in rules(look(fields[: fields.index(b"\n") + 1] + evil()))


def test_numpys_arrays_that_lie_about_themselves():
    plain = npy(np.eye(3))
    assert look(plain[:-1]).verdict is Verdict.PARTIAL
    assert look(plain + npy(np.eye(2))).verdict is Verdict.CLEAN
    assert "pickle-runs-code" in rules(look(plain + evil()))
    deep = b"(" * 5000 + b")" * 5000
    bent = b"\x93NUMPY\x02\x00" + struct.pack("<I", len(deep)) + deep
    assert look(bent).verdict is Verdict.PARTIAL
    assert look(b"\x93NUMPY\x03\x00\xff\xff\xff\xff").verdict is Verdict.PARTIAL
    numbers = plain[: plain.index(b"\n") + 1] + evil().ljust(72, b"\0")
    assert "pickle-runs-code" in rules(look(numbers))


def test_data_may_begin_like_an_archive():
    for start in (b"PK\x03\x04", b"\x1f\x8b\x08\x00", b"BZh9", b"7z\xbc\xaf", b"\x80\x04"):
        assert look(whole(data(start + b"\xfe\xdc\xba" * 20))).verdict is Verdict.CLEAN, start


def test_numbers_that_compute_a_name_by_chance_are_numbers():
    """`STACK_GLOBAL` of two numbers: seen in a gradient boosting's trees, of which every training writes other ones."""
    chance = b"K\x01K\x02\x93K\x05\x85R."
    assert is_pickle(BytesSource(chance + b"\x00" * 40), nested=True)
    assert not is_pickle(BytesSource(chance + b"\x00" * 40), nested=True, numbers=True)
    assert is_pickle(BytesSource(b"cposix\nsystem\n(X\x02\x00\x00\x00idtR."), nested=True, numbers=True)
