"""The SBOM inside an image: a function of its recipe, and in agreement with the one that `nox -s sbom` prints."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from buildkit.plan.spec import Kind, PackSbom, Spec
from buildkit.supply.collect import collect
from buildkit.supply.cyclonedx import render_cyclonedx
from buildkit.supply.embedded import render_embedded
from tests.plan.planfakes import STAGES, FakeCheckout, base_checkout, composer, wheel
from tests.supply.test_documents import facts

LISTED = STAGES | {"runtime": f"sbom = true\n{STAGES['runtime']}"}


def sbom_layer(checkout: FakeCheckout | None = None, stages: dict[str, str] = LISTED) -> Spec:
    spec = composer(stages, checkout or base_checkout()).compose("runtime").layers[-1]
    assert spec.kind is Kind.SBOM
    return spec


def render(spec: Spec) -> bytes:
    assert isinstance(spec.work, PackSbom)
    return render_embedded(spec.work, "amd64")


def with_model(**changes: Any) -> FakeCheckout:
    checkout = base_checkout()
    checkout.locked["models.lock"] = (replace(checkout.locked["models.lock"][0], **changes),)
    return checkout


def with_wheels(*wheels: Any) -> FakeCheckout:
    checkout = base_checkout()
    checkout.wheels["deps.txt"] = wheels
    return checkout


def test_it_is_one_layer_more_and_changes_no_other() -> None:
    plain, listed = composer().compose("runtime"), composer(LISTED).compose("runtime")
    assert listed.root == plain.root
    assert listed.layers[:-1] == plain.layers
    assert listed.layers[-1].name == "runtime/sbom"
    assert listed.layers[-1].work.path.startswith("/usr/share/sbom/")  # type: ignore[union-attr]
    assert listed.layers[-1].work.path.endswith("-runtime.cdx.json")  # type: ignore[union-attr]


def test_stages_that_inherit_or_include_have_none() -> None:
    stages = LISTED | {"top": 'summary = "x"\nfrom = "runtime"', "own": 'summary = "x"\ninclude = ["runtime"]'}
    for name in ("top", "own"):
        assert Kind.SBOM not in {spec.kind for spec in composer(stages).compose(name).specs}


@pytest.mark.parametrize(
    "checkout",
    [
        with_model(license="Apache-2.0"),
        with_model(version="4"),
        with_wheels(wheel("heavy", "2.0")),
        with_wheels(),
    ],
)
def test_another_document_has_another_key(checkout: FakeCheckout) -> None:
    first, other = sbom_layer(), sbom_layer(checkout)
    assert render(first) != render(other)
    assert first.key != other.key


def test_equal_recipes_have_equal_documents() -> None:
    first, other = sbom_layer(), sbom_layer(base_checkout(), LISTED | {"unrelated": 'summary = "y"'})
    assert (first.key, render(first)) == (other.key, render(other))


def test_it_lists_what_the_printed_one_lists() -> None:
    composition = composer(LISTED).compose("runtime")
    printed = json.loads(render_cyclonedx(collect(composition, facts())))
    held = json.loads(render(composition.layers[-1]))

    def listed(document: dict[str, Any]) -> list[tuple[str, str, Any]]:
        return sorted((part["type"], part["name"], part.get("hashes", [])) for part in document["components"])

    assert listed(held) == listed(printed)
    assert len(listed(held)) > 5
    layers = [part["name"] for part in printed["metadata"]["component"]["components"]]
    assert [part["name"] for part in held["metadata"]["component"]["components"]] == layers[:-1]


def test_it_is_valid_and_holds_nothing_that_a_build_finds_out() -> None:
    text = render(sbom_layer()).decode()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    document = json.loads(text)
    assert "timestamp" not in document["metadata"]
    assert not any(word in text for word in ("layer:digest", "image:config", '"buildkit:commit"', "not at hand"))
