"""What a look-up of advisories covers, and what it says that it leaves out."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

from buildkit.inspection.audit_deps import find_scope
from tests.plan.planfakes import base_checkout, composer, sdist


def test_package_of_a_git_repository_is_looked_up_if_its_version_is_known() -> None:
    checkout = base_checkout()
    place = f"git+https://example.org/kit.git@{'b' * 40}"
    (lock, wheels) = next((lock, wheels) for lock, wheels in checkout.wheels.items() if len(wheels) > 1)
    kits = (replace(sdist("kit"), place=place), replace(sdist("computed"), version="", place=place))
    checkout.wheels[lock] = (*wheels, *kits)
    made = composer(None, checkout)
    planner = cast("Any", SimpleNamespace(graph=made._graph, checkout=checkout))
    scope = find_scope(planner, tuple(made._graph.stages))
    assert ("kit", "1.0") in scope.pins
    assert not [name for name, version in scope.pins if not version]
    assert ("package of a git repository", 1, "its lock does not say its version") in scope.left_out
