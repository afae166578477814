"""Shapes: what is wrong is said with its place; schema and reader agree value by value."""

from __future__ import annotations

import math
from typing import Any

import jsonschema
import pytest

from buildkit.declare.schema import Field, Flag, ListOf, MapOf, Place, Shape, Table, Text, Whole, nearest
from buildkit.errors import Problem

TABLE = Table({"a-b": Field(Flag(), "a flag", required=True), "n": Field(Whole(0, 9), "a number")})

# shape, value, the problem (key and words) or None where it is well
CASES: list[tuple[Shape, Any, tuple[str, str] | None]] = [
    (Text(), "x", None),
    (Text(), "", None),
    (Text(), 3, ("k", "must be a string, not a whole number")),
    (Text(), ["x"], ("k", "must be a string, not a list")),
    (Text(), {}, ("k", "must be a string, not a table")),
    (Text(), True, ("k", "must be a string, not true or false")),
    (Text(), math.pi, ("k", "must be a string, not a float")),
    (Text(), "a\0b", ("k", "must not hold a NUL character")),
    (Text("a+", "many a"), "aa", None),
    (Text("a+", "many a"), "aab", ("k", "`aab` is not many a")),
    (Text("a|b", "a or b"), "b", None),
    (Text("a|b", "a or b"), "bc", ("k", "`bc` is not a or b")),
    (Text(choices=("uv", "pip")), "uv", None),
    (Text(choices=("uv", "pip")), "conda", ("k", "`conda` is none of uv, pip")),
    (Flag(), False, None),
    (Flag(), 0, ("k", "must be true or false, not a whole number")),
    (Flag(), "yes", ("k", "must be true or false, not a string")),
    (Whole(2, 3), 2, None),
    (Whole(2, 3), 3, None),
    (Whole(2, 3), 1, ("k", "1 is not between 2 and 3")),
    (Whole(2, 3), 4, ("k", "4 is not between 2 and 3")),
    (Whole(0, 3), True, ("k", "must be a whole number, not true or false")),
    (Whole(0, 3), 1.5, ("k", "must be a whole number, not a float")),
    (ListOf(Text()), [], None),
    (ListOf(Text()), "x", ("k", "must be a list, not a string")),
    (ListOf(Text()), ["x", 1], ("k[1]", "must be a string, not a whole number")),
    (ListOf(Text(), least=1), [], ("k", "needs at least 1 item")),
    (ListOf(Text(), least=2), ["x"], ("k", "needs at least 2 items")),
    (MapOf(Text()), {"A_1": "x"}, None),
    (MapOf(Text()), [], ("k", "must be a table, not a list")),
    (MapOf(Text()), {"1A": "x"}, ("k.1A", "is not a usable name")),
    (MapOf(Text()), {"A": 1}, ("k.A", "must be a string, not a whole number")),
    (TABLE, {"a-b": True, "n": 3}, None),
    (TABLE, {"a-b": True}, None),
    (TABLE, {"n": 3}, ("k.a-b", "is missing")),
    (TABLE, {"a-b": True, "m": 3}, ("k.m", "is an unknown key")),
    (TABLE, 7, ("k", "must be a table, not a whole number")),
]


@pytest.mark.parametrize(("shape", "value", "problem"), CASES)
def test_reader_and_schema_agree(shape: Shape, value: object, problem: tuple[str, str] | None) -> None:
    found: list[Problem] = []
    shape.read(value, Place("f.toml", found, "k"))
    assert [(p.file, p.key, p.what) for p in found] == ([("f.toml", *problem)] if problem else [])
    schema = shape.schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert jsonschema.Draft202012Validator(schema).is_valid(value) is (problem is None)


def test_what_is_read_is_a_value() -> None:
    found: list[Problem] = []
    place = Place("f", found)
    assert TABLE.read({"a-b": False, "n": 3}, place) == {"a_b": False, "n": 3}
    assert ListOf(Text()).read(["b", "a"], place) == ("b", "a")
    assert MapOf(Text()).read({"b": "1", "a": "2"}, place) == (("a", "2"), ("b", "1"))
    assert not found


def test_every_problem_is_found_and_what_is_well_is_kept() -> None:
    found: list[Problem] = []
    shape = ListOf(TABLE)
    read = shape.read([{"n": "x", "zz": 1}, {"a-b": True, "n": 3}, 4], Place("f", found, "t"))
    assert [p.key for p in found] == ["t[0].zz", "t[0].a-b", "t[0].n", "t[2]"]
    assert read == ({}, {"a_b": True, "n": 3})


def test_unknown_keys_are_named_in_the_order_of_the_file() -> None:
    found: list[Problem] = []
    keys = [f"x{number}" for number in range(20)]
    Table({}).read(dict.fromkeys(keys, 1), Place("f", found))
    assert [p.key for p in found] == keys


def test_the_nearest_word_is_named_only_where_one_is_near() -> None:
    assert nearest("form", ["from", "include"]) == "did you mean `from`?"
    assert nearest("banana", ["from", "include"]) == ""
    found: list[Problem] = []
    TABLE.read({"a_b": True, "a-b": True}, Place("f", found))
    Text(choices=("minbase", "apt")).read("minbse", Place("f", found))
    assert [p.hint for p in found] == ["did you mean `a-b`?", "did you mean `minbase`?"]


def test_what_is_long_is_said_short() -> None:
    problems: list[Problem] = []
    place = Place("x", problems)
    Whole(0, 9).read(16**5000, place.at("n"))
    Text("a+", "many a").read("b" * 100_000, place.at("t"))
    TABLE.read({"c" * 100_000: 1, "a-b": True}, place)
    assert "a number of 20001 bits is not between 0 and 9" in str(problems[0])
    assert all(len(str(problem)) < 500 for problem in problems)


def test_of_thousands_of_problems_the_first_will_do() -> None:
    problems: list[Problem] = []
    TABLE.read({f"key{number}": 1 for number in range(20_000)}, Place("x", problems))
    assert 100 < len(problems) <= 500
