"""TOML goes out as it comes in."""

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
def test_what_is_written_is_read_back(table):
    assert tomllib.loads(render_toml(table, header=("one", ""))) == table


def test_layout_is_stable():
    table = {"a": 1, "t": {"x": "y"}, "l": [{"n": "1"}, {"n": "2", "in": {"deep": True}}]}
    assert render_toml(table, header=("note",)) == (
        '# note\n\na = 1\n\n[t]\nx = "y"\n\n[[l]]\nn = "1"\n\n[[l]]\nn = "2"\n\n[l.in]\ndeep = true\n'
    )


def test_errors_name_the_file():
    with pytest.raises(DefinitionError, match=r"x\.toml: is not TOML"):
        parse_toml("a =", "x.toml")
