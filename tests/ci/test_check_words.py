"""ci/check-words: which phrases it reports, and where."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "ci/check-words"
PHRASES = {"foo bar": "baz", "x+y": "z"}


@pytest.fixture(scope="module")
def check_words() -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("check_words", str(SCRIPT))
    spec = importlib.util.spec_from_loader("check_words", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = writes
    return module


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a foo bar b", [(1, "foo bar")]),
        ("Foo  BAR", [(1, "foo bar")]),
        ("1\n2\n# so foo\n    # bar ends", [(3, "foo bar")]),
        ("foo\n\nbar", []),
        ("foo bars, a-foo bar, foo_bar, foo bar-x", []),
        ("x+y and xy", [(1, "x+y")]),
        ("foo bar\nfoo bar", [(1, "foo bar"), (2, "foo bar")]),
    ],
)
def test_phrase_matches_whole_words_across_one_line_break(
    check_words: ModuleType, text: str, found: list[tuple[int, str]]
) -> None:
    assert list(check_words.find_phrases(text, PHRASES)) == found


def test_no_phrases_find_nothing(check_words: ModuleType) -> None:
    assert list(check_words.find_phrases("text", {})) == []


def test_phrases_are_lower_case_sorted_and_have_advice(check_words: ModuleType) -> None:
    phrases = check_words.load_phrases(check_words.PHRASES)
    assert phrases
    assert all(advice and phrase == phrase.lower() for phrase, advice in phrases.items())
    assert list(phrases) == sorted(phrases)


def test_report_names_file_line_and_advice_and_exits_with_1(tmp_path: Path, check_words: ModuleType) -> None:
    phrase, advice = next(iter(check_words.load_phrases(check_words.PHRASES).items()))
    page = tmp_path / "page.md"
    page.write_text(f"fine\nnot {phrase} here\n")
    ran = subprocess.run([sys.executable, SCRIPT, page], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (1, f"{page}:2: '{phrase}': write instead: {advice}\n")


def test_this_repository_passes() -> None:
    ran = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (0, "")
