"""What SBOMs and provenance say of a model that was derived from another."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path

import pytest

from buildkit.plan.compose import Composition
from buildkit.supply.collect import collect
from buildkit.supply.cyclonedx import render_cyclonedx
from buildkit.supply.provenance import recipe_byproducts, resolved_dependencies
from buildkit.supply.spdx import render_spdx
from tests.plan.derivedmodels import derive
from tests.plan.planfakes import STAGES, base_checkout, composer, model_file
from tests.supply.test_documents import facts, validate_cyclonedx, validate_spdx


@pytest.fixture(scope="module")
def composition() -> Composition:
    """An image with a model that was optimised and then quantised; neither step's source is in it."""
    checkout = base_checkout()
    (vad,) = checkout.locked["models.lock"]
    vad = replace(vad, files=(model_file("vad.onnx"),))
    basic = derive(vad, "vad-basic", "onnx-optimise")
    checkout.locked["models.lock"] = (derive(basic, "vad-int8", "onnx-quantise-static"),)
    return composer(STAGES, checkout).compose("runtime")


def test_sboms_name_what_a_model_was_derived_from(composition: Composition, tmp_path: Path) -> None:
    sbom = collect(composition, facts())
    text = render_cyclonedx(sbom).decode()
    validate_cyclonedx(text)
    (model,) = (part for part in json.loads(text)["components"] if part["name"] == "vad-int8")
    assert [one["name"] for one in model["pedigree"]["ancestors"]] == ["vad-basic", "vad"]

    (tmp_path / "x.spdx.json").write_bytes(render_spdx(sbom))
    validate_spdx(str(tmp_path / "x.spdx.json"))
    document = json.loads((tmp_path / "x.spdx.json").read_text("utf-8"))
    packages = {package["SPDXID"]: package for package in document["packages"]}
    lineage = [
        (packages[one["spdxElementId"]]["name"], packages[one["relatedSpdxElement"]]["name"])
        for one in document["relationships"]
        if one["relationshipType"] == "DESCENDANT_OF"
    ]
    assert lineage == [("vad-int8", "vad-basic"), ("vad-basic", "vad")]
    (vad,) = (package for package in packages.values() if package["name"] == "vad")
    assert vad["checksums"] == [{"algorithm": "SHA256", "checksumValue": model_file("vad.onnx").sha256.hex}]
    assert vad["comment"] == "not in the image: vad-int8 was derived from it"


def test_provenance_has_each_step_and_the_file_that_it_began_with(composition: Composition) -> None:
    steps = [one for one in recipe_byproducts(composition, (), {}, with_results=False) if one["name"].startswith("vad")]
    assert [step["name"] for step in steps] == ["vad-int8", "vad-basic"]
    assert {step["annotations"]["kind"] for step in steps} == {"derive"}
    assert steps[0]["annotations"]["report"] == {"size": "0.26"}
    tools = [json.loads(base64.b64decode(step["content"]))["tool"] for step in steps]
    assert tools == ["onnx-quantise-static", "onnx-optimise"]
    names = [one["name"] for one in resolved_dependencies(composition, ())]
    assert "vad/vad.onnx" in names
