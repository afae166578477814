"""The error tree: one error for all problems of a file, exit codes, hints, and errors of other processes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from buildkit import errors
from buildkit.build import optimiser, step_secrets
from buildkit.errors import BuildError, BuildkitError, DefinitionError, Interrupted, Problem, RegistryError
from buildkit.resolve import wheels
from buildkit.tools import python_trap

DETAILS: dict[str, Any] = {  # a value for every detail of any kind of error, none of them its default
    "hint": "build again",
    "output": "line 1\nline 2",
    "problems": (Problem(file="a.toml", key="k", what="is bad", hint="mend it"), Problem(file="b", what="is empty")),
    "digests": ("a" * 64, "b" * 64),
    "reported": True,
    "denied": True,
    "down": True,
    "absent": True,
    "names": ("hello", "jq"),
    "tree": "libs/x",
    "versions": (("numpy", "1.0"), ("numpy", "2.0")),
}


def subclasses(base: type[BuildkitError]) -> Iterator[type[BuildkitError]]:
    yield base
    for kind in base.__subclasses__():
        yield from subclasses(kind)


MODULES = {module.__name__ for module in (errors, optimiser, python_trap, step_secrets, wheels)}
KINDS = sorted(
    {kind for kind in subclasses(BuildkitError) if kind.__module__ in MODULES}, key=lambda kind: kind.__name__
)


def test_error_of_one_problem_has_its_message_and_hint() -> None:
    error = DefinitionError.of([Problem(file="stages/x/stage.toml", key="form", what="is an unknown key", hint="huh?")])
    assert error.message == "stages/x/stage.toml: `form`: is an unknown key"
    assert str(error) == error.message
    assert error.hint == "huh?"
    assert len(error.problems) == 1


def test_error_of_several_problems_lists_each_with_its_hint() -> None:
    problems = [Problem(file="a.toml", what="is empty"), Problem(file="b.toml", key="k", what="is bad", hint="mend it")]
    error = DefinitionError.of(problems)
    assert error.message == "2 problems:\n  - a.toml: is empty\n  - b.toml: `k`: is bad (mend it)"
    assert error.problems == tuple(problems)
    assert error.hint == ""


@pytest.mark.parametrize(("kind", "code"), [(DefinitionError, 2), (BuildError, 1), (Interrupted, 130)])
def test_exit_code_follows_from_the_kind_of_error(kind: type[BuildkitError], code: int) -> None:
    assert kind("x").exit_code == code


def test_except_build_error_does_not_catch_an_interrupt() -> None:
    assert not issubclass(Interrupted, BuildError)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_error_of_any_kind_survives_the_way_through_json_with_every_detail(kind: type[BuildkitError]) -> None:
    details = {name: DETAILS[name] for name in kind.details}
    error = kind("numpy: it failed", **details)
    copy = BuildkitError.from_json(json.loads(json.dumps(error.as_json())))
    assert type(copy) is kind
    assert vars(copy) == vars(error)
    assert str(copy) == "numpy: it failed"
    assert vars(copy) == {"message": "numpy: it failed", **details}  # no attribute is forgotten in `details`


def test_kinds_of_errors_of_every_module_survive_the_way_through_json() -> None:
    found = {kind.__module__ for kind in subclasses(BuildkitError)}
    assert {name for name in found if name.startswith("buildkit.")} == MODULES


def test_error_of_an_unknown_kind_becomes_a_build_error() -> None:
    error = BuildkitError.from_json({"kind": "NewerError", "message": "m", "hint": "h", "output": "", "more": 1})
    assert (type(error), error.message, error.hint) == (BuildError, "m", "h")


def test_registry_error_is_neither_down_nor_denied_nor_absent_by_default() -> None:
    copy = BuildkitError.from_json(RegistryError("refused").as_json())
    assert isinstance(copy, RegistryError)
    assert (copy.denied, copy.down, copy.absent) == (False, False, False)


def test_error_tree_of_the_docstring_matches_the_classes() -> None:
    parents: dict[int, str] = {}
    drawn = {}
    for line in (errors.__doc__ or "").splitlines():
        depth = max(line.find("├"), line.find("└")) // 4 + 1 if "── " in line else 0
        if name := line.partition("── ")[2].split()[:1] or (line.split()[:1] if line == "BuildkitError" else []):
            parents[depth] = name[0]
            drawn[name[0]] = parents.get(depth - 1, "Exception")
    defined = {kind.__name__: kind.__bases__[0].__name__ for kind in KINDS if kind.__module__ == errors.__name__}
    assert drawn == defined
