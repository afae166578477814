"""Why the SBOM inside an image would be made anew."""

from __future__ import annotations

from dataclasses import replace

import pytest
from planfakes import STAGES, FakeCheckout, base_checkout, composer, wheel
from test_explain_causes import MemoryHistory, explain

from buildkit.plan.compose import Composer
from buildkit.plan.explain.causes import format_causes

LISTED = STAGES | {"runtime": f"sbom = true\n{STAGES['runtime']}"}


def causes(before: Composer, after: Composer) -> dict[str, str]:
    last = {spec.name: spec.recipe for spec in before.compose("runtime").specs}
    found = explain(MemoryHistory(last=last), after, "runtime")
    return {name: format_causes(of_layer) for name, of_layer in found.items()}


def relicensed() -> FakeCheckout:
    checkout = base_checkout()
    checkout.locked["models.lock"] = (replace(checkout.locked["models.lock"][0], license="Apache-2.0"),)
    return checkout


def upgraded() -> FakeCheckout:
    checkout = base_checkout()
    kept = [one for one in checkout.wheels["deps.txt"] if one.name != "light"]
    checkout.wheels["deps.txt"] = (*kept, wheel("light", "2.0"))
    return checkout


@pytest.mark.parametrize(
    ("checkout", "cause"),
    [
        (relicensed(), "models: vad 3 Apache-2.0 path:m added, vad 3 MIT path:m removed"),
        (upgraded(), "layers: one added, one removed"),
    ],
)
def test_a_new_document_names_what_it_lists_anew(checkout: FakeCheckout, cause: str) -> None:
    text = causes(composer(LISTED), composer(LISTED, checkout))["runtime/sbom"]
    assert text.startswith(cause)
    assert "stages/runtime/stage.toml" in text


def test_the_first_document_of_a_stage_is_a_new_layer() -> None:
    found = causes(composer(), composer(LISTED))
    assert list(found) == ["runtime/sbom"]
    assert found["runtime/sbom"].startswith("new layer")
