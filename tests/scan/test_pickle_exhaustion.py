"""Pickles that exhaust memory or time from a few bytes, and helpers that hand out or fill an allowed class itself."""

import collections
import decimal
import fractions
import ipaddress
import pickle
import random
import uuid

import numpy as np
import pytest

from buildkit.scan import Verdict
from buildkit.scan.pickle import exhaustion
from tests.scan.pickler import call, data, describe, named, number, pickle_stream, rules, scan_bytes, text, tuple_of

HUGE = b"\x8a\x06\0\0\0\0\0\x10"  # 2**44
LARGE = number(2**27)


def builtin(name: str, *args: bytes) -> bytes:
    return call(named("builtins", name), *args)


RANGE = builtin("range", HUGE)
RECONSTRUCT = named("copyreg", "_reconstructor")
SHARED = b")\x85" + b"2\x86" * 40  # a tuple of 2**40 parts
EXHAUSTING = {
    "list of a range": builtin("list", RANGE),
    "range alone": RANGE,
    "range with a step": builtin("range", number(0), HUGE, number(3)),
    "range of a computed length": builtin("range", builtin("int", text("9" * 12))),
    "range by NEWOBJ": named("builtins", "range") + tuple_of(HUGE) + b"\x81",
    "range by NEWOBJ_EX": named("builtins", "range") + tuple_of(HUGE) + b"}\x92",
    "range by INST": b"(" + HUGE + b"ibuiltins\nrange\n",
    "range by OBJ": b"(" + named("builtins", "range") + HUGE + b"o",
    "range of Python 2": b"\x80\x02c__builtin__\nxrange\n" + tuple_of(HUGE) + b"R",
    "one range, many times": builtin("range", LARGE) + b"\x940" + builtin("list", b"h\x00") * 12,
    "range in a list of arguments": named("builtins", "range") + b"](" + HUGE + b"eR",
    "reversed range": builtin("list", builtin("reversed", builtin("range", LARGE) + b"\x94")) * 12,
    "copies of a list": builtin("list", builtin("range", LARGE)) + b"\x940" + builtin("tuple", b"h\x00") * 12,
    "copies of a buffer": builtin("bytearray", number(2**29)) + b"\x940" + builtin("bytes", b"h\x00") * 12,
    "lists of lists": b"".join((b"", named("builtins", "list") * 70, RANGE, b"\x85R" * 70)),
    "shared tuple as a key of an ordered dict": call(named("collections", "OrderedDict")) + SHARED + b"Ns",
    "deque of a range": call(named("collections", "deque"), RANGE),
    "subclass of list": call(RECONSTRUCT, named("collections", "UserList"), named("builtins", "list"), RANGE),
    "bytes": builtin("bytes", HUGE),
    "bytearray": builtin("bytearray", HUGE),
    "bytearray by keyword": named("builtins", "bytearray") + b")}" + text("source") + HUGE + b"s\x92",
    "bytearray of a long number": builtin("bytearray", b"\x8a\x64" + b"\x01" * 100),
    "bytearray of a computed number": builtin("bytearray", builtin("int", text("99999999999"))),
    "bytearray, many times": builtin("bytearray", number(2**29)) * 3,
    "bytearray by a helper": call(
        named("torch._tensor", "_rebuild_from_type_v2"), named("builtins", "bytearray"), b"N", tuple_of(HUGE), b"N"
    ),
    "bytearray by __newobj__": call(named("copyreg", "__newobj__"), named("builtins", "bytearray"), HUGE),
    "bytearray by __newobj_ex__": call(
        named("copyreg", "__newobj_ex__"), named("builtins", "bytearray"), tuple_of(HUGE), b"}"
    ),
    "bytearray by a constructor": call(
        named("numpy.random._pickle", "__generator_ctor"), HUGE, named("builtins", "bytearray")
    ),
    "subclass of bytearray": call(
        named("copyreg", "_reconstructor"), named("builtins", "bytearray"), named("builtins", "bytearray"), HUGE
    ),
    "fraction": call(named("fractions", "Fraction"), text("1e9999999999")),
    "fraction with underscores": call(named("fractions", "Fraction"), text("1e99_99999999")),
    "fraction of a decimal": call(
        named("fractions", "Fraction"), call(named("decimal", "Decimal"), text("1E+999999999"))
    ),
    "fraction of a computed text": call(named("fractions", "Fraction"), builtin("str", text("1e9"))),
    "integer of a decimal": builtin("int", call(named("_decimal", "Decimal"), text("1e999999999"))),
    "decimal of a tuple": call(named("decimal", "Decimal"), tuple_of(number(0), tuple_of(number(1)), number(2**30))),
    "integer of many digits": builtin("int", text("9" * 5000)),
    "array": call(named("numpy", "ndarray"), tuple_of(HUGE)),
    "array of many sides": call(named("numpy", "ndarray"), tuple_of(*[number(1000)] * 5)),
    "array, reconstructed": call(
        named("numpy._core.multiarray", "_reconstruct"), named("numpy", "ndarray"), tuple_of(HUGE), data(b"b")
    ),
    "void": call(named("numpy", "void"), HUGE),
    "masked array": call(
        named("numpy.ma.core", "_mareconstruct"), named("numpy.ma.core", "MaskedArray"), named("numpy", "ndarray"),
        tuple_of(HUGE), data(b"b"),
    ),
    "storage": call(named("torch", "FloatStorage"), HUGE),
    "untyped storage": call(named("torch.storage", "UntypedStorage"), HUGE),
    "tensor": call(named("torch", "FloatTensor"), number(2**20), number(2**20)),
    "layer": call(named("torch.nn.modules.linear", "Linear"), number(2**20), number(2**20)),
    "sparse matrix": call(named("scipy.sparse._csr", "csr_matrix"), tuple_of(HUGE, number(1))),
    "addresses": builtin("list", call(named("ipaddress", "IPv6Network"), text("::/0"))),
    "shared tuple as a key": b"}" + SHARED + b"Ns",
    "shared tuple in a set": b"\x8f(" + SHARED + b"\x90",
    "shared tuple in a frozen set": b"(" + SHARED + b"\x91",
    "shared tuple in a dict of a group": b"(" + SHARED + b"N" + b"d",
    "shared tuple as text": builtin("str", SHARED),
    "shared tuple by a call of set": builtin("set", b"]" + SHARED + b"a"),
}  # fmt: skip


@pytest.mark.parametrize("name", EXHAUSTING)
def test_exhaustion_is_a_finding(name):
    found = scan_bytes(pickle_stream(EXHAUSTING[name]))
    assert "pickle-exhausts-memory" in rules(found), describe(found)


ORDINARY = [
    range(10**6), list(range(9)), bytearray(b"x" * 99), fractions.Fraction(1, 3), decimal.Decimal("1.5E-30"), 10**400,
    collections.deque([1, 2], 5), collections.Counter("abc"), ipaddress.ip_network("10.0.0.0/8"), uuid.UUID(int=5),
    random.Random(1), np.zeros((300, 400)), np.random.default_rng(1), np.ma.array([1, 2]), slice(10**12), [[0] * 9] * 9,
    {((1, 2), (3, (4, 5))): 1, frozenset({(1, (2, 3))}): 2},
]  # fmt: skip


@pytest.mark.parametrize("value", ORDINARY, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_ordinary_value_exhausts_nothing(value, protocol):
    found = scan_bytes(pickle.dumps(value, protocol=protocol))
    assert found.verdict is Verdict.CLEAN, describe(found)


def test_many_nested_keys_end_the_scan(monkeypatch):
    keys = b"".join(b"}" + tuple_of(tuple_of(number(at)), b")") + b"Ns0" for at in range(2000))
    assert scan_bytes(pickle_stream(keys + b"N")).verdict is Verdict.CLEAN
    monkeypatch.setattr(exhaustion, "WALKED", 1_000_000)
    wide = b"(" + b")" * 60_000 + b"t\x94"
    again = b"".join(b"}h\x00\x85Ns0" for _ in range(90))
    found = scan_bytes(pickle_stream(wide + again + b"N"))
    assert (found.verdict, "nested values" in describe(found)) == (Verdict.PARTIAL, True)


PIPELINE = named("sklearn.pipeline", "Pipeline")
STATE = b"}" + text("fit") + number(1) + b"s"
TAG = named("torch.jit._pickle", "restore_type_tag")
TAGGED = call(TAG, PIPELINE, text("x"))
ALTERS = "pickle-alters-global"
HANDED_OUT = {
    "restore_type_tag": (TAGGED + STATE + b"b", ALTERS),
    "restore_type_tag, twice": (call(TAG, TAGGED, text("x")) + STATE + b"b", ALTERS),
    "build_intlist": (call(named("torch.jit._pickle", "build_intlist"), PIPELINE) + STATE + b"b", ALTERS),
    "object_": (call(named("numpy", "object_"), PIPELINE) + STATE + b"b", ALTERS),
    "entries": (TAGGED + text("a") + b"Ns", ALTERS),
    "a layer as an id": (tuple_of(text("module"), PIPELINE, text(""), text("")) + b"Q" + STATE + b"b", ALTERS),
    "state set by a helper": (
        call(named("torch._tensor", "_rebuild_from_type_v2"), TAG, PIPELINE, tuple_of(PIPELINE, text("x")), STATE),
        ALTERS,
    ),
    "special state by a helper": (
        call(named("torch._utils", "_rebuild_parameter_with_state"), b"NNN}" + text("__class__") + b"Ns"),
        "pickle-special-state",
    ),
    "reduction of objects": (call(named("numpy", "amax"), tuple_of(PIPELINE)) + STATE + b"b", "pickle-odd-arguments"),
    "scalar that is an object": (
        call(named("numpy.core.multiarray", "scalar"), call(named("numpy", "dtype"), text("O")), PIPELINE),
        "pickle-odd-arguments",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HANDED_OUT)
def test_class_that_a_helper_hands_out_is_followed(name):
    body, rule = HANDED_OUT[name]
    found = scan_bytes(pickle_stream(body))
    assert rule in rules(found), describe(found)


def test_helpers_as_they_are_written_are_clean():
    parameter = call(named("torch._utils", "_rebuild_parameter_with_state"), b"N", b"\x88", b"}", STATE)
    made = call(named("torch._tensor", "_rebuild_from_type_v2"), named("torch._utils", "_rebuild_tensor_v2"),
                named("torch", "Tensor"), tuple_of(b"N", b"N"), STATE)  # fmt: skip
    tagged = call(TAG, b"](" + number(1) + number(2) + b"e", text("List[int]"))
    for body in (parameter, made, tagged, named("numpy", "amax")):
        assert scan_bytes(pickle_stream(body)).verdict is Verdict.CLEAN, describe(scan_bytes(pickle_stream(body)))


def test_helpers_that_call_helpers_come_to_an_end():
    helper = named("copyreg", "__newobj__")
    found = scan_bytes(pickle_stream(helper + helper + b"\x94(" + b"h\x00" * 60 + b"tR"))
    assert "pickle-computed-call" in rules(found)
