"""Schemas: problems have their location; JSON Schema and parser agree value by value."""

from __future__ import annotations

import math
from typing import Any

import jsonschema
import pytest

from buildkit.declare.schema import (
    BooleanSchema,
    IntegerSchema,
    KeySchema,
    ListSchema,
    MapSchema,
    TableSchema,
    TextSchema,
    ValueLocation,
    ValueSchema,
    suggest_word,
)
from buildkit.errors import Problem

TABLE = TableSchema(
    {"a-b": KeySchema(BooleanSchema(), "a flag", required=True), "n": KeySchema(IntegerSchema(0, 9), "a number")}
)

# shape, value, the problem (key and words) or None where it is well
CASES: list[tuple[ValueSchema, Any, tuple[str, str] | None]] = [
    (TextSchema(), "x", None),
    (TextSchema(), "", None),
    (TextSchema(), 3, ("k", "must be a string, not a whole number")),
    (TextSchema(), ["x"], ("k", "must be a string, not a list")),
    (TextSchema(), {}, ("k", "must be a string, not a table")),
    (TextSchema(), True, ("k", "must be a string, not true or false")),
    (TextSchema(), math.pi, ("k", "must be a string, not a float")),
    (TextSchema(), "a\0b", ("k", "must not hold a NUL character")),
    (TextSchema("a+", "many a"), "aa", None),
    (TextSchema("a+", "many a"), "aab", ("k", "`aab` is not many a")),
    (TextSchema("a|b", "a or b"), "b", None),
    (TextSchema("a|b", "a or b"), "bc", ("k", "`bc` is not a or b")),
    (TextSchema(choices=("uv", "pip")), "uv", None),
    (TextSchema(choices=("uv", "pip")), "conda", ("k", "`conda` is none of uv, pip")),
    (BooleanSchema(), False, None),
    (BooleanSchema(), 0, ("k", "must be true or false, not a whole number")),
    (BooleanSchema(), "yes", ("k", "must be true or false, not a string")),
    (IntegerSchema(2, 3), 2, None),
    (IntegerSchema(2, 3), 3, None),
    (IntegerSchema(2, 3), 1, ("k", "1 is not between 2 and 3")),
    (IntegerSchema(2, 3), 4, ("k", "4 is not between 2 and 3")),
    (IntegerSchema(0, 3), True, ("k", "must be a whole number, not true or false")),
    (IntegerSchema(0, 3), 1.5, ("k", "must be a whole number, not a float")),
    (ListSchema(TextSchema()), [], None),
    (ListSchema(TextSchema()), "x", ("k", "must be a list, not a string")),
    (ListSchema(TextSchema()), ["x", 1], ("k[1]", "must be a string, not a whole number")),
    (ListSchema(TextSchema(), least=1), [], ("k", "needs at least 1 item")),
    (ListSchema(TextSchema(), least=2), ["x"], ("k", "needs at least 2 items")),
    (MapSchema(TextSchema()), {"A_1": "x"}, None),
    (MapSchema(TextSchema()), [], ("k", "must be a table, not a list")),
    (MapSchema(TextSchema()), {"1A": "x"}, ("k.1A", "is not a usable name")),
    (MapSchema(TextSchema()), {"A": 1}, ("k.A", "must be a string, not a whole number")),
    (TABLE, {"a-b": True, "n": 3}, None),
    (TABLE, {"a-b": True}, None),
    (TABLE, {"n": 3}, ("k.a-b", "is missing")),
    (TABLE, {"a-b": True, "m": 3}, ("k.m", "is an unknown key")),
    (TABLE, 7, ("k", "must be a table, not a whole number")),
]


@pytest.mark.parametrize(("shape", "value", "problem"), CASES)
def test_parser_and_json_schema_accept_the_same_values(
    shape: ValueSchema, value: object, problem: tuple[str, str] | None
) -> None:
    found: list[Problem] = []
    shape.read(value, ValueLocation("f.toml", found, "k"))
    assert [(p.file, p.key, p.what) for p in found] == ([("f.toml", *problem)] if problem else [])
    schema = shape.schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert jsonschema.Draft202012Validator(schema).is_valid(value) is (problem is None)


def test_valid_table_is_read_as_plain_values() -> None:
    found: list[Problem] = []
    place = ValueLocation("f", found)
    assert TABLE.read({"a-b": False, "n": 3}, place) == {"a_b": False, "n": 3}
    assert ListSchema(TextSchema()).read(["b", "a"], place) == ("b", "a")
    assert MapSchema(TextSchema()).read({"b": "1", "a": "2"}, place) == (("a", "2"), ("b", "1"))
    assert not found


def test_all_problems_are_reported_and_valid_keys_are_kept() -> None:
    found: list[Problem] = []
    shape = ListSchema(TABLE)
    read = shape.read([{"n": "x", "zz": 1}, {"a-b": True, "n": 3}, 4], ValueLocation("f", found, "t"))
    assert [p.key for p in found] == ["t[0].zz", "t[0].a-b", "t[0].n", "t[2]"]
    assert read == ({}, {"a_b": True, "n": 3})


def test_unknown_keys_are_reported_in_file_order() -> None:
    found: list[Problem] = []
    keys = [f"x{number}" for number in range(20)]
    TableSchema({}).read(dict.fromkeys(keys, 1), ValueLocation("f", found))
    assert [p.key for p in found] == keys


def test_suggestion_is_made_only_for_similar_words() -> None:
    assert suggest_word("form", ["from", "include"]) == "did you mean `from`?"
    assert suggest_word("banana", ["from", "include"]) == ""
    assert suggest_word("CudaProvider", ["CPUProvider", "CUDAProvider"]) == "did you mean `CUDAProvider`?"
    found: list[Problem] = []
    TABLE.read({"a_b": True, "a-b": True}, ValueLocation("f", found))
    TextSchema(choices=("minbase", "apt")).read("minbse", ValueLocation("f", found))
    assert [p.hint for p in found] == ["did you mean `a-b`?", "did you mean `minbase`?"]


def test_long_values_are_shortened_in_messages() -> None:
    problems: list[Problem] = []
    place = ValueLocation("x", problems)
    IntegerSchema(0, 9).read(16**5000, place.at("n"))
    TextSchema("a+", "many a").read("b" * 100_000, place.at("t"))
    TABLE.read({"c" * 100_000: 1, "a-b": True}, place)
    assert "a number of 20001 bits is not between 0 and 9" in str(problems[0])
    assert all(len(str(problem)) < 500 for problem in problems)


def test_number_of_reported_problems_is_limited() -> None:
    problems: list[Problem] = []
    TABLE.read({f"key{number}": 1 for number in range(20_000)}, ValueLocation("x", problems))
    assert 100 < len(problems) <= 500
