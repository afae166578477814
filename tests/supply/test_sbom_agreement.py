"""Changed SBOMs are detected; values that no lock decides may differ."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from buildkit.digest import Digest, FileHash
from buildkit.plan.compose import Composition
from buildkit.supply.collect import SbomInputs, collect
from buildkit.supply.components import ComponentKind, Licence, Sbom
from buildkit.supply.cyclonedx import render_cyclonedx
from buildkit.supply.sbom_agreement import Layers, check_cyclonedx
from tests.plan.planfakes import composer
from tests.supply.test_provenance import made_of


@pytest.fixture(scope="module")
def runtime() -> Composition:
    return composer().compose("runtime")


@pytest.fixture(scope="module")
def sbom(runtime: Composition) -> Sbom:
    return collect(
        runtime, SbomInputs(image="x/runtime", version="1", arch="amd64", maker="1", results=made_of(runtime))
    )


@pytest.fixture(scope="module")
def layers(runtime: Composition) -> Layers:
    return [(blob.digest, blob.diff_id) for one in made_of(runtime).values() for blob in one.blobs]


def part_of(document: dict[str, Any], kind: str) -> dict[str, Any]:
    """The first part of a kind."""
    wanted = {"name": "buildkit:kind", "value": kind}
    found: dict[str, Any] = next(one for one in document["components"] if wanted in one["properties"])
    return found


def test_sbom_values_that_no_lock_decides_may_differ(runtime: Composition, sbom: Sbom, layers: Layers) -> None:
    elsewhere = replace(
        sbom,
        commit="c" * 40,
        dirty=True,
        time=7,
        maker="2",
        components=tuple(
            replace(
                part,
                licence=Licence(expression="MIT"),
                needs=(),
                version="c" * 40 if part.kind is ComponentKind.APPLICATION else part.version,
            )
            for part in sbom.components
        ),
    )
    for document in (sbom, elsewhere):
        assert check_cyclonedx(json.loads(render_cyclonedx(document)), sbom, runtime, layers) == ""


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda document: part_of(document, "wheel")["hashes"][0].update(content="0" * 64), "disagrees with the locks"),
        (lambda document: part_of(document, "wheel").pop("hashes"), "disagrees with the locks"),
        (lambda document: document["components"].remove(part_of(document, "wheel")), "it lacks `pkg:pypi/"),
        (lambda document: document["components"].remove(part_of(document, "model")), "it lacks `model:"),
        (lambda document: document["components"].remove(part_of(document, "debian")), "it lacks "),
        (lambda document: part_of(document, "debian").update(version="0"), "it lacks "),
        (lambda document: part_of(document, "model")["components"].pop(), "disagrees with the locks"),
        (
            lambda document: document["components"].append(
                {**part_of(document, "wheel"), "bom-ref": "pkg:pypi/evil@1"}
            ),
            "it has, unlike the locks, `pkg:pypi/evil@1`",
        ),
        (
            lambda document: document["components"].insert(0, {**part_of(document, "wheel"), "hashes": []}),
            "` twice",
        ),
        (lambda document: document["components"].append(part_of(document, "model")), "` twice"),
        (lambda document: document["components"].append(part_of(document, "debian")), "` twice"),
        (
            lambda document: part_of(document, "model")["components"].insert(
                0, {**part_of(document, "model")["components"][0], "hashes": []}
            ),
            "disagrees with the locks",
        ),
        (
            lambda document: part_of(document, "wheel")["properties"].append(
                {"name": "buildkit:layer:name", "value": "other"}
            ),
            "disagrees with the locks",
        ),
        (lambda document: part_of(document, "wheel").update(version="0"), "disagrees with the locks"),
        (lambda document: part_of(document, "wheel").update(name="other"), "disagrees with the locks"),
        (lambda document: part_of(document, "wheel").update(purl="pkg:pypi/other@1"), "disagrees with the locks"),
        (lambda document: document["metadata"]["component"].update(name="x/other"), "it is of `x/other`"),
        (lambda document: document["metadata"]["component"]["components"].pop(), "its layers are not the image's"),
        (lambda document: document["metadata"]["component"]["components"].reverse(), "its layers are not the image's"),
        (lambda document: document.pop("metadata"), "it cannot be read: KeyError"),
        (lambda document: document.update(components=[1]), "it cannot be read"),
        (lambda document: document.update(components={"x": []}), "it cannot be read"),
    ],
)
def test_changed_sbom_is_refused(
    change: Callable[[dict[str, Any]], object], why: str, runtime: Composition, sbom: Sbom, layers: Layers
) -> None:
    document = json.loads(render_cyclonedx(sbom))
    change(document)
    assert why in check_cyclonedx(document, sbom, runtime, layers)


def test_sbom_of_another_image_or_other_recipes_is_refused(runtime: Composition, sbom: Sbom, layers: Layers) -> None:
    document = json.loads(render_cyclonedx(sbom))
    other = [(Digest.of(b"another"), layers[0][1]), *layers[1:]]
    assert check_cyclonedx(document, sbom, runtime, other) == "its layers are not the image's"
    keys = [replace(layer, key=type(layer.key).of(b"other")) for layer in sbom.layers]
    document = json.loads(render_cyclonedx(replace(sbom, layers=tuple(keys))))
    assert check_cyclonedx(document, sbom, runtime, layers) == "its layers are not made by the recipes of this checkout"


def test_hash_of_a_wheel_compiled_on_another_host_may_differ(runtime: Composition, sbom: Sbom, layers: Layers) -> None:
    compiled = next(part for part in sbom.components if dict(part.notes).get("compiled"))
    assert compiled.sha256 is None
    components = tuple(replace(p, sha256=FileHash.of(b"theirs")) if p is compiled else p for p in sbom.components)
    assert (
        check_cyclonedx(json.loads(render_cyclonedx(replace(sbom, components=components))), sbom, runtime, layers) == ""
    )


def test_component_that_two_layers_bring_has_properties_twice(runtime: Composition, sbom: Sbom, layers: Layers) -> None:
    wheel = next(part for part in sbom.components if part.kind is ComponentKind.WHEEL)
    other = replace(wheel.places[0], layer=next(x.name for x in sbom.layers[::-1] if x.name != wheel.layer))
    twice = replace(wheel, places=(*wheel.places, other))
    both = replace(sbom, components=tuple(twice if part is wheel else part for part in sbom.components))
    document = json.loads(render_cyclonedx(both))
    assert check_cyclonedx(document, both, runtime, layers) == ""
    assert "disagrees with the locks" in check_cyclonedx(document, sbom, runtime, layers)
