"""Quoted values mean the same to every builder; values that cannot be expressed are refused."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit.containerfile.find_expression import render_find
from buildkit.containerfile.quoting import check_line, check_path, quote_argv, quote_word, render_copy
from buildkit.errors import DefinitionError
from buildkit.layers.globs import compile_excludes

ODD = st.text(st.sampled_from(list("ab $\\\"'`#={}\t/é")), max_size=12)


def read_word(text: str) -> str:
    """A word as builders read it: within double quotes a backslash escapes a quote, a dollar and itself."""
    if not text.startswith('"'):
        assert not re.search(r"[\s\"'\\$#]", text)
        return text
    out, rest = "", text[1:]
    while rest:
        if rest[0] == "\\" and rest[1] in '"$\\':
            out, rest = out + rest[1], rest[2:]
            continue
        if rest[0] == '"':
            assert rest == '"', f"{text} ends early"
            return out
        assert rest[0] != "$", f"{text} is expanded"
        out, rest = out + rest[0], rest[1:]
    raise AssertionError(f"{text} does not end")


def read_instruction(text: str) -> str:
    """An instruction as builders read it: comment lines go, then lines that end in a backslash are joined."""
    lines = [line for line in text.split("\n") if not line.lstrip().startswith("#")]
    assert all(line.endswith("\\") for line in lines[:-1]), text
    return "".join(line.removesuffix("\\") for line in lines[:-1]) + lines[-1]


@given(ODD)
def test_quoted_words_are_taken_literally(value: str) -> None:
    assert read_word(quote_word(value)) == value


@given(st.lists(st.text(st.sampled_from(list("ab \n\t#\\\"'$é\r")), max_size=20), max_size=4))
def test_quoted_argument_lists_are_taken_literally(argv: list[str]) -> None:
    assert json.loads(read_instruction(f"RUN {quote_argv(argv)}").removeprefix("RUN ")) == argv


def test_a_script_keeps_its_lines_and_its_comments() -> None:
    assert quote_argv(("sh", "-c", "one\n  # two\n")) == '["sh", "-c", "one\\n\\\n  \\u0023 two\\n"]'


@pytest.mark.parametrize("value", ["two\nlines", "a\rb", "bell\a", "\x7f"])
def test_values_that_a_containerfile_cannot_express_are_refused_with_their_key(value: str) -> None:
    with pytest.raises(DefinitionError, match=r"stages/x/stage\.toml: `config\.env\.A`: contains a line break"):
        check_line(value, "stages/x/stage.toml", "config.env.A")


@pytest.mark.parametrize("path", ["a$b", "a*", "a?", "a[1]", "back\\slash", 'a"b'])
def test_paths_that_a_builder_would_expand_are_refused(path: str) -> None:
    with pytest.raises(DefinitionError, match="which a Containerfile expands"):
        check_path(path, "stages/x/stage.toml", "copy.source")


def test_copy_of_paths_with_spaces_uses_the_list_form() -> None:
    assert render_copy(("app",), "/app/", "--link") == "COPY --link app /app/"
    assert render_copy(("my app",), "/app/") == 'COPY ["my app", "/app/"]'


PATHS = (
    "a", "a/b", "a/b/c", "a/b/c.txt", "a/bc", "doc/x/copyright", "doc/x/readme", "doc/y/z/copyright", "usr.so",
    "usr/lib/x/gconv/one", "usr/lib/gconv", "p+q/(r)", "p+q/[s]", "{t}",
)  # fmt: skip
PATTERNS = (
    ("a/**",), ("a/*",), ("a",), ("a/b?",), ("**/*.txt",), ("doc/**", "!doc/*/copyright"), ("usr/lib/*/gconv",),
    ("doc", "!doc/x", "doc/x/readme"), ("u[a-s]r.so", "p+q/(r)", "{t}"), ("!a", "a/b", "!a/b/c"), ("usr?so", "a/[!b]*"),
)  # fmt: skip


@pytest.mark.tools
@pytest.mark.parametrize("patterns", PATTERNS)
def test_find_expression_matches_the_same_paths_as_the_patterns(patterns: tuple[str, ...], tmp_path: Path) -> None:
    for path in sorted(PATHS, key=len, reverse=True):
        (tmp_path / path).mkdir(parents=True, exist_ok=True)
    script = f"find . -mindepth 1 -regextype posix-extended \\( {render_find(patterns)} \\)"
    done = subprocess.run(("sh", "-c", script), cwd=tmp_path, capture_output=True, text=True, check=True)
    excluded = compile_excludes(patterns)
    every = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")}
    assert set(done.stdout.replace("./", "").split()) == {path for path in every if excluded(path)}
