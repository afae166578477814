"""What a container declares to be a pickle is scanned as one to its end, or the file is not fully scanned."""

import gzip
import io
import struct
import zipfile
import zlib

import numpy as np
import pytest

from buildkit.scan import Verdict
from buildkit.scan.pickle.numpy import measure_item
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
from tests.scan.test_archives_others import tar
from tests.scan.test_pickle_streams import dtype

STREAM = b"cposix\nsystem\n(S'id'\ntR."
ZEROS = b"0" * 39
FAR = b"Vposix\np1\n0Vsystem\np2\n0Vcollections\np%s19\n0VOrderedDict\np%s29\n0g1\ng2\n\x93(Vid\ntR." % (ZEROS, ZEROS)
HIDDEN = {
    "memo indices of many digits": FAR,
    "octal numbers": b"I010\n0" * 65 + STREAM,
    "long floats": (b"F1" + b"0" * 57 + b"e-5\n0") * 65 + STREAM,
    "numbers cut by a NUL": b"I1\0x\n0" * 65 + STREAM,
    "a long constant before": b"\x80\x04B" + struct.pack("<I", 5000) + bytes(5000) + b"0" + STREAM,
    "anomalies": b"I1x\n0" * 10 + STREAM,
}


def npy(descr: str, body: bytes, shape: str = "(1,)") -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + body


def zipped(name: str, content: bytes, more: dict[str, bytes] | None = None) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as out:
        for key, value in ({name: content} | (more or {})).items():
            out.writestr(key, value)
    return file.getvalue()


CONTAINERS = {
    "a file": bytes,
    "PyTorch": lambda body: zipped("a/data.pkl", body),
    "PyTorch's constants": lambda body: zipped("a/constants.pkl", body, {"a/data.pkl": pickle_stream(b"N")}),
    "an array of objects": lambda body: npy("'|O'", body),
    "an array of 'object'": lambda body: npy("'object'", body),
    "an archive of arrays": lambda body: zipped("x.npy", npy("'O'", body)),
    "joblib, compressed": zlib.compress,
    "a member by its name": lambda body: tar({"model.pkl": body}),
    "a compressed member by its name": lambda body: tar({"model.pkl.gz": gzip.compress(body)}),
    "PyTorch's bytes": lambda body: pickle_stream(call(named("torch.storage", "_load_from_bytes"), data(body))),
}


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("name", HIDDEN)
def test_call_is_found_however_the_stream_begins(name, container):
    found = scan_bytes(CONTAINERS[container](HIDDEN[name]))
    assert found.verdict is Verdict.FINDINGS, describe(found)
    assert "posix.system" in describe(found)


@pytest.mark.parametrize(
    "body", [b"hello, this is text\n", b'{"a": 1}', b"world\n", b"\xff\xfe\xfd" * 9, b"N", b"I1\n"]
)
@pytest.mark.parametrize("container", [name for name in CONTAINERS if name not in ("a file", "joblib, compressed")])
def test_declared_pickle_that_is_none_is_not_fully_scanned(container, body):
    found = scan_bytes(CONTAINERS[container](body))
    assert found.verdict is Verdict.PARTIAL, describe(found)


@pytest.mark.parametrize("container", ["PyTorch", "PyTorch's constants", "an array of objects", "PyTorch's bytes"])
def test_declared_pickle_that_is_empty_is_not_fully_scanned(container):
    found = scan_bytes(CONTAINERS[container](b""))
    assert found.verdict is Verdict.PARTIAL, describe(found)


@pytest.mark.parametrize("name", HIDDEN)
def test_pickle_among_numbers_is_found_however_it_begins(name):
    body = HIDDEN[name].ljust(8000, b"\0")
    for content in (
        zipped("a/data/0", body, {"a/data.pkl": pickle_stream(b"N")}),
        npy("'|u1'", body, f"({len(body)},)"),
        PROTO + WRAPPER + b")\x81" + state(shape=len(body)) + b"b" + body + b".",
    ):
        assert "posix.system" in describe(scan_bytes(content))


@pytest.mark.parametrize("rest", [b"and so on\n", b'{"a": 1}', b"\x01\x02"])
def test_bytes_after_a_pickle_are_never_taken_for_text_alone(rest):
    assert scan_bytes(pickle_stream(b"N") + rest).verdict is Verdict.PARTIAL
    assert scan_bytes(CONTAINERS["an array of objects"](pickle_stream(b"N") + rest)).verdict is Verdict.PARTIAL
    assert scan_bytes(pickle_stream(b"N") + b"\n").verdict is Verdict.CLEAN


def test_protocol_of_the_future_is_not_fully_scanned():
    harmless, bad = b"\x80\x06]K\x01a.", b"\x80\x06" + EVIL + b"."
    assert scan_bytes(harmless).verdict is not Verdict.CLEAN
    assert "protocol 6" in describe(scan_bytes(harmless))
    assert "pickle-runs-code" in rules(scan_bytes(bad))


DESCRIPTIONS = [
    "<f8", "|b1", "<U5", "S3", "<M8[ns]", "|V4", "O", "|O", "O8", "object", "object_", "f8,O", "(2,)O", "f8,f4",
    "float64", "bool", "int32", "complex128", "d", "?",
    [("a", "<f4"), ("b", "O")], [("a", "<f4"), ("b", "<i2", (3,))],
    ("<f4", (2, 3)), ("<f4", 3), ("O", (2,)), [("", "|V4"), ("a", "<f4")], [("a", [("b", "O")])],
    [("a", [("b", "<i8")])], ("V8", "O"), [(("title", "a"), "<f4")], [("a", "object")], [],
]  # fmt: skip


@pytest.mark.parametrize("description", DESCRIPTIONS, ids=str)
def test_types_of_arrays_are_read_as_numpy_reads_them(description):
    try:
        real = np.lib.format.descr_to_dtype(description)
    except (TypeError, ValueError):
        return
    size = measure_item(description)
    assert size is None or (size == real.itemsize and not real.hasobject)
    assert size is not None or real.hasobject or description in ("f8,f4", "d", "?")


def test_array_whose_type_is_not_understood_is_never_clean():
    for descr in ("'f8,f4'", "{'names': ['a'], 'formats': ['f8']}", "'nonsense'", "5", "None"):
        assert scan_bytes(npy(descr, bytes(8))).verdict is Verdict.PARTIAL, descr
    assert scan_bytes(npy("'<f8'", bytes(8), "(1,) * 3")).verdict is Verdict.PARTIAL


def test_structure_is_measured_and_what_follows_is_scanned():
    descr = "[('a', '<f4'), ('b', '<i2', (3,))]"
    assert scan_bytes(npy(descr, bytes(10))).verdict is Verdict.CLEAN
    assert scan_bytes(npy(descr, bytes(9))).verdict is Verdict.PARTIAL
    assert "pickle-runs-code" in rules(scan_bytes(npy(descr, bytes(10) + malicious_pickle())))


WRAPPER = named("joblib.numpy_pickle", "NumpyArrayWrapper")
OBJECT = named("builtins", "object")
FROM_TYPE = named("torch._tensor", "_rebuild_from_type_v2")


def state(*more: bytes, kind: bytes | None = None, shape: int = 3) -> bytes:
    """Push the state of an array, of three bytes."""
    parts = {
        "subclass": named("numpy", "ndarray"), "shape": tuple_of(number(shape)), "order": text("C"),
        "dtype": kind or dtype("u1"), "allow_mmap": b"\x88",
    }  # fmt: skip
    return b"}(" + b"".join(text(key) + value for key, value in parts.items()) + b"".join(more) + b"u"


AGAIN = tuple_of(number(3), text("<"), b"N", b"N", b"N", number(-1), number(-1), number(0)) + b"b"
ITEMS = b"0(]"  # of the array; also opcodes
OUT_OF_STEP = {
    "made by _reconstructor": call(named("copyreg", "_reconstructor"), WRAPPER, OBJECT, b"N") + state() + b"b",
    "made by __newobj__": call(named("copyreg", "__newobj__"), WRAPPER) + state() + b"b",
    "made by a call": call(WRAPPER, *[b"N"] * 5) + state() + b"b",
    "made with keywords": WRAPPER + b")}" + text("shape") + b"N" + b"s\x92" + state() + b"b",
    "made by a helper": call(FROM_TYPE, OBJECT, WRAPPER, b")", b"N") + state() + b"b",
    "state set twice": WRAPPER + b")\x81\x94" + state() + b"b" + ITEMS + b"0h\x00" + state() + b"b",
    "computed key": WRAPPER + b")\x81" + state(call(named("builtins", "str"), text("shape")), b")") + b"b",
    "state and slots": WRAPPER + b")\x81" + state() + b"}\x86b",
    "computed padding": WRAPPER
    + b")\x81"
    + state(text("numpy_array_alignment_bytes"), call(named("builtins", "int"), text("1")))
    + b"b",
    "type set twice": WRAPPER
    + b")\x81"
    + state(kind=dtype("V9", size=9) + AGAIN)
    + b"b",
    "within a frame": b"\x95" + struct.pack("<Q", 400) + WRAPPER + b")\x81" + state() + b"b",
    "objects by name, not by flags": WRAPPER + b")\x81" + state(kind=dtype("O8", flags=0)) + b"b",
}  # fmt: skip


@pytest.mark.parametrize("name", OUT_OF_STEP)
def test_joblib_array_that_could_be_read_out_of_step_is_not_clean(name):
    tail = ITEMS + b"N0" * 300 + b"."
    found = scan_bytes(PROTO + OUT_OF_STEP[name] + tail)
    assert found.verdict is not Verdict.CLEAN


def test_joblib_array_as_joblib_writes_it_is_clean():
    assert scan_bytes(PROTO + WRAPPER + b")\x81" + state() + b"b" + ITEMS + b".").verdict is Verdict.CLEAN
    framed = PROTO + b"\x95" + struct.pack("<Q", len(WRAPPER + b")\x81" + state() + b"b"))
    assert scan_bytes(framed + WRAPPER + b")\x81" + state() + b"b" + ITEMS + b".").verdict is Verdict.CLEAN


ENCODE = named("_codecs", "encode")
LOAD = named("torch.storage", "_load_from_bytes")
CYRILLIC = "cposix\nsystem\n(V\u00e9\ntR."  # other bytes in each encoding


@pytest.mark.parametrize("encoding", [(), (text("utf-8"),), (text("latin1"),), (text("utf8"),)])
@pytest.mark.parametrize("long", [False, True])
def test_text_is_encoded_as_the_loader_encodes_it(encoding, long):
    inner = ("I1\n0" * 300 if long else "") + CYRILLIC
    found = scan_bytes(pickle_stream(call(LOAD, call(ENCODE, text(inner), *encoding))))
    assert "pickle-runs-code" in rules(found), describe(found)
    utf8 = encoding in ((), (text("utf-8"),), (text("utf8"),))
    inside = [one.what for one in found.findings if one.member == "text"]
    assert inside == [r"calls posix.system('\xc3\xa9')" if utf8 else r"calls posix.system('\xe9')"]


def test_text_in_another_encoding_is_a_finding():
    for extra in (
        (text("utf-7"),),
        (text("rot13"),),
        (text("latin1"), text("ignore")),
        (b")2\x862\x862\x86",),
        (number(1),),
    ):
        found = scan_bytes(pickle_stream(call(LOAD, call(ENCODE, text("N."), *extra))))
        assert "pickle-odd-arguments" in rules(found), extra
    surrogate = pickle_stream(call(LOAD, call(ENCODE, b"X\x03\0\0\0\xed\xa0\x80")))
    assert "pickle-odd-arguments" in rules(scan_bytes(surrogate))
    escaped = b"V" + b"N" * 70_000 + b"\n"
    assert "pickle-odd-arguments" in rules(scan_bytes(pickle_stream(call(LOAD, call(ENCODE, escaped)))))


@pytest.mark.parametrize("raw", [b"U\x02N\xe9", b"T\x02\0\0\0N\xe9", b"S'N\\xe9'\n"])
def test_string_of_python_2_that_depends_on_the_loader_is_not_loaded(raw):
    assert "pickle-odd-arguments" in rules(scan_bytes(pickle_stream(call(LOAD, call(ENCODE, raw)))))


MANY = b"".join(text(f"k{at}") + number(at) for at in range(100))
SIMPLE = call(named("types", "SimpleNamespace"))
SPECIAL = text("__class__") + b"N"
FORGOTTEN = {
    "loader at the end of a dict": (SIMPLE + b"(" + MANY + text("append") + LOAD + b"dbN", "pickle-odd-arguments"),
    "loader in a tuple": (tuple_of(*[b"N"] * 300, LOAD), "pickle-odd-arguments"),
    "loader in a list": (b"](" + b"N" * 300 + LOAD + b"e", "pickle-odd-arguments"),
    "loader in a set": (b"\x8f(" + LOAD + b"\x90", "pickle-odd-arguments"),
    "loader as an argument of INST": (b"(" + b"N" * 300 + LOAD + b"itypes\nSimpleNamespace\n", "pickle-odd-arguments"),
    "loader as an argument of OBJ": (b"(" + named("types", "SimpleNamespace") + LOAD + b"o", "pickle-odd-arguments"),
    "loader as an id": (LOAD + b"Q", "pickle-odd-arguments"),
    "special attribute at the end": (SIMPLE + b"(" + MANY + SPECIAL + b"db", "pickle-special-state"),
    "special attribute among slots": (SIMPLE + b"N(" + MANY + SPECIAL + b"d\x86b", "pickle-special-state"),
    "computed attribute": (
        SIMPLE + b"}" + call(named("builtins", "str"), text("__class__")) + b"Nsb", "pickle-special-state"
    ),
    "method of the state": (
        SIMPLE + b"}" + text("append") + named("builtins", "list") + b"sbNa", "pickle-computed-call"
    ),
    "method of a namespace": (call(named("types", "SimpleNamespace"), b"}") + b"Na", "pickle-computed-call"),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGOTTEN)
def test_size_of_a_container_hides_nothing(name):
    body, rule = FORGOTTEN[name]
    found = scan_bytes(pickle_stream(body))
    assert rule in rules(found), describe(found)


def test_large_containers_are_clean():
    assert scan_bytes(pickle_stream(SIMPLE + b"(" + MANY + b"db")).verdict is Verdict.CLEAN
