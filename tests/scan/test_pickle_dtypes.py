"""States of NumPy's types: those that NumPy writes are clean, false ones are a finding. None is loaded."""

import pickle

import numpy as np
import pytest

from buildkit.scan import Verdict
from tests.scan.pickler import call, data, describe, named, number, pickle_stream, rules, scan_bytes, text, tuple_of

TYPES = [
    "f8", "?", "O", "U5", "S3", "M8[ns]", "m8[D]", "V4", "c16", "f2", "S0", ">i4", [("a", "f4"), ("b", "O")],
    [("a", "f4"), ("b", "i2", (3,))], ("f4", (2, 3)), ("O", (2,)), [("a", [("b", "O")])], (np.record, [("x", "f4")]),
    [(("t", "a"), "f4")], {"names": ["a", "b"], "formats": ["f4", "O"], "offsets": [8, 0], "itemsize": 24},
    {"names": ["a", "b"], "formats": ["f4", "f4"], "offsets": [0, 0]}, [(f"f{at}", "f4") for at in range(30)], [],
]  # fmt: skip


@pytest.mark.parametrize("kind", TYPES, ids=str)
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("aligned", [False, True])
def test_type_as_numpy_writes_it_is_clean(kind, protocol, aligned):
    made = np.dtype(kind, align=aligned)
    for value in (made, np.zeros(2, dtype=made), {"a": made, "b": [made, made.newbyteorder()]}):
        found = scan_bytes(pickle.dumps(value, protocol=protocol))
        assert found.verdict is Verdict.CLEAN, describe(found)


def dtype(name: bytes, flags: int, size: int = -1, inner: bytes = b"N", fields: bytes = b"N") -> bytes:
    made = call(named("numpy", "dtype"), name, b"\x89", b"\x88")
    state = tuple_of(number(3), text("|"), inner, b"N", fields, number(size), number(-1), number(flags))
    return made + state + b"b"


OBJECT = dtype(text("O8"), 63)
FLOAT = dtype(text("f8"), 0)


def field(kind: bytes, offset: int = 0) -> bytes:
    return b"}" + text("a") + tuple_of(kind, number(offset)) + b"s"


FALSE = {
    "objects that are bytes": dtype(text("O8"), 0),
    "bytes that are objects": dtype(text("f8"), 63),
    "field that is an object": dtype(text("V8"), 0, 8, fields=field(OBJECT)),
    "field of numbers that is an object": dtype(text("V8"), 27, 8, fields=field(FLOAT)),
    "field of a field": dtype(text("V8"), 0, 8, fields=field(dtype(text("V8"), 0, 8, fields=field(OBJECT)))),
    "array of objects": dtype(text("V8"), 0, 8, inner=tuple_of(OBJECT, tuple_of(number(1)))),
    "negative size": dtype(text("V8"), 0, -8),
    "negative size of a text": dtype(text("U2"), 8, -8),
    "sub-array outside": dtype(text("V8"), 0, 8, inner=tuple_of(FLOAT, tuple_of(number(1000)))),
    "sub-array outside in two sides": dtype(text("V8"), 0, 8, inner=tuple_of(FLOAT, tuple_of(number(1), number(2)))),
    "sub-array of a negative shape": dtype(text("V8"), 0, 8, inner=tuple_of(FLOAT, tuple_of(number(-1)))),
    "sub-array of an unknown shape": dtype(text("V8"), 0, 8, inner=tuple_of(FLOAT, b"N")),
    "field that is a sub-array outside": dtype(
        text("V8"), 0, 8, fields=field(dtype(text("V8"), 0, 8, inner=tuple_of(FLOAT, tuple_of(number(9)))))
    ),
    "field outside": dtype(text("V8"), 0, 8, fields=field(FLOAT, 4096)),
    "field before": dtype(text("V8"), 0, 8, fields=field(FLOAT, -8)),
    "field of a computed type": dtype(text("V8"), 0, 8, fields=field(call(named("builtins", "str"), text("O")))),
    "many fields": dtype(text("V8"), 0, 8, fields=b"}(" + (text("a") + tuple_of(FLOAT, number(0))) * 40 + b"u"),
    "state set twice": FLOAT + tuple_of(*[b"N"] * 7, number(0)) + b"b",
    "state that is not a tuple": call(named("numpy", "dtype"), text("f8")) + b"}b",
    "flags that are computed": call(named("numpy", "dtype"), text("V8")) + tuple_of(*[b"N"] * 8) + b"b",
}


@pytest.mark.parametrize("name", FALSE)
def test_false_state_of_a_type_is_found(name):
    found = scan_bytes(pickle_stream(FALSE[name]))
    assert "pickle-false-dtype" in rules(found), describe(found)
    used = call(named("numpy._core.multiarray", "scalar"), FALSE[name], data(b"A" * 8))
    assert "pickle-false-dtype" in rules(scan_bytes(pickle_stream(used)))
