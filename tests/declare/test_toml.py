"""TOML is rendered and parsed back unchanged."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit.declare.toml import parse_toml, render_toml
from buildkit.errors import DefinitionError

keys = st.text(min_size=1, max_size=8)
# TOML knows no surrogates
texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
scalars = texts | st.booleans() | st.integers(-(2**63), 2**63 - 1)
values = scalars | st.lists(scalars, max_size=3)
tables = st.dictionaries(texts, values, max_size=4)
nested = st.dictionaries(texts, values | tables | st.lists(tables, min_size=1, max_size=3), max_size=5)


@given(nested)
def test_rendered_text_parses_to_the_same_value(table):
    assert tomllib.loads(render_toml(table, header=("one", ""))) == table


def test_rendered_layout_is_stable():
    table = {"a": 1, "t": {"x": "y"}, "l": [{"n": "1"}, {"n": "2", "in": {"deep": True}}]}
    assert render_toml(table, header=("note",)) == (
        '# note\n\na = 1\n\n[t]\nx = "y"\n\n[[l]]\nn = "1"\n\n[[l]]\nn = "2"\n\n[l.in]\ndeep = true\n'
    )


def test_errors_name_the_file():
    with pytest.raises(DefinitionError, match=r"x\.toml: is not TOML"):
        parse_toml("a =", "x.toml")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("x = " + "[" * 20_000, "is nested too deeply"),
        ("x = " + "{a=" * 20_000, "is nested too deeply"),
        ("x = " + "9" * 5000, "is not TOML: .*digits"),
        ("a." * 100_000 + "a = 1", "has a key of more than 100 parts"),
        ("'a' . \"b\" ." * 100_000 + "a = 1", "has a key of more than 100 parts"),
        ("[" + "a." * 100_000 + "a]", "has a key of more than 100 parts"),
        ("# " + "x" * (4 << 20), "is longer than"),
    ],
)
def test_toml_that_would_exhaust_the_host_is_refused_with_the_reason(text, why):
    with pytest.raises(DefinitionError, match=rf"x\.toml: {why}"):
        parse_toml(text, "x.toml")


def test_long_words_are_not_mistaken_for_long_keys():
    text = 'a = "' + "a." * 40 + '"\nb = "' + "-" * 100_000 + '"\n' + "c.d = 1\ne.f = 2\n"
    assert set(parse_toml(text, "x")) == {"a", "b", "c", "e"}


def test_byte_order_mark_of_an_editor_is_ignored() -> None:
    assert parse_toml("\ufeffa = 1\n", "f") == {"a": 1}
