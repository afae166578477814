"""Wrong arguments are answered by what was probably meant and by what is needed, not by every option."""

from __future__ import annotations

import pytest

from buildkit.cli.options import make_parser, parse_build_options
from buildkit.errors import DefinitionError


def hint(*arguments: str, stage: str = "", push: bool = False) -> str:
    with pytest.raises(DefinitionError) as caught:
        parse_build_options(arguments, stage, push=push)
    return caught.value.hint


def test_missing_argument_is_shown_without_the_options() -> None:
    assert hint(stage="app", push=True) == "usage: nox -s push-app -- [OPTION …] REF; --help lists the options"


def test_misspelt_option_is_answered_with_the_nearest() -> None:
    assert hint("--frozne") == "did you mean `--frozen`? usage: nox -s build -- [OPTION …]; --help lists the options"
    assert hint("--qqq").startswith("usage: nox -s build -- [OPTION …]; ")


def test_short_usage_is_shown_whole() -> None:
    parser = make_parser("schema")
    parser.add_argument("file", nargs="?")
    with pytest.raises(DefinitionError) as caught:
        parser.parse_args(["--what"])
    assert caught.value.hint == "usage: nox -s schema -- [-h] [file]"


def test_dashes_make_no_option_alike() -> None:
    parser = make_parser("up")
    parser.add_argument("--strict", action="store_true")
    with pytest.raises(DefinitionError) as caught:
        parser.parse_args(["--frobnicate"])
    assert caught.value.hint == "usage: nox -s up -- [-h] [--strict]"
