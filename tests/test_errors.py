"""The error tree: one error for all problems of a file, exit codes, hints."""

from __future__ import annotations

import pytest

from buildkit import errors
from buildkit.errors import BuildError, BuildkitError, DefinitionError, Interrupted, Problem


def test_a_single_problem_is_the_message_and_its_hint_the_hint() -> None:
    error = DefinitionError.of([Problem(file="stages/x/stage.toml", key="form", what="is an unknown key", hint="huh?")])
    assert error.message == "stages/x/stage.toml: `form`: is an unknown key"
    assert str(error) == error.message
    assert error.hint == "huh?"
    assert len(error.problems) == 1


def test_several_problems_are_all_in_the_message_each_with_its_hint() -> None:
    problems = [Problem(file="a.toml", what="is empty"), Problem(file="b.toml", key="k", what="is bad", hint="mend it")]
    error = DefinitionError.of(problems)
    assert error.message == "2 problems:\n  - a.toml: is empty\n  - b.toml: `k`: is bad (mend it)"
    assert error.problems == tuple(problems)
    assert error.hint == ""


@pytest.mark.parametrize(("kind", "code"), [(DefinitionError, 2), (BuildError, 1), (Interrupted, 130)])
def test_exit_codes(kind: type[BuildkitError], code: int) -> None:
    assert kind("x").exit_code == code


def test_the_tree_is_as_it_is_drawn() -> None:
    for line in (errors.__doc__ or "").splitlines():
        depth = sum(line.count(mark) for mark in ("├", "└"))
        if not depth:
            continue
        kind = getattr(errors, line.split("── ")[1].split()[0])
        assert issubclass(kind, BuildError if line.startswith((" ", "│")) else BuildkitError)
    drawn = {name for name in vars(errors) if isinstance(getattr(errors, name), type)} - {"Problem"}
    assert all(name in (errors.__doc__ or "") for name in drawn if issubclass(getattr(errors, name), Exception))
