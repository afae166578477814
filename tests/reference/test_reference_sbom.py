"""SBOMs of the shipping images, compared with an independent scanner and the images' own Python."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.reference.builds import ROOT, read_pins
from tests.reference.conftest import Project
from tests.reference.engine import Podman
from tests.scanner import Scanned, scan_image, syft_command

pytestmark = [pytest.mark.tools, pytest.mark.network]


def bill(project: Project, stage: str) -> dict[str, Any]:
    argv = [sys.executable, "-m", "nox", "-s", "sbom", "--", stage]
    env = dict(os.environ) | {"BUILDKIT_CACHE": str(project.cache)}
    done = subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    value: dict[str, Any] = json.loads(done.stdout)
    return value


def properties_of(component: dict[str, Any]) -> dict[str, str]:
    return {entry["name"].removeprefix("buildkit:"): entry["value"] for entry in component["properties"]}


def scan(podman: Podman, image: str, visitor: str, folder: Path) -> Scanned:
    """Scan an image with syft, from a container of another image."""
    program, *options = syft_command("dir:/image", "--base-path", "/image")
    mounts = ("--mount", f"type=image,source={image},destination=/image", "--volume", f"{program}:/mnt/syft:ro")
    env = ("--env=SYFT_CHECK_FOR_APP_UPDATE=false", "--env=HOME=/tmp", "--tmpfs=/tmp")
    text = podman("run", "--rm", "--network=none", "--user=0", *env, *mounts, visitor, "/mnt/syft", *options)
    return Scanned(report=json.loads(text))


@pytest.mark.parametrize("stage", ["runtime", "hardened"])
def test_syft_finds_the_packages_of_the_sbom(project: Project, podman: Podman, stage: str, tmp_path: Path) -> None:
    document = bill(project, stage)
    found: dict[str, set[tuple[str, str]]] = {"wheel": set(), "debian": set()}
    for part in document["components"]:
        found.setdefault(properties_of(part)["kind"], set()).add((part["name"], part.get("version", "")))
    scanned = scan(podman, project.images[stage], project.images["base"], tmp_path)
    assert found["debian"] == scanned.packages("deb")
    sources = {
        (properties_of(part).get("source", part["name"]), part["version"])
        for part in document["components"]
        if "version" in part
    }
    assert scanned.noted() <= sources  # of packages that we list
    assert found["wheel"] == scanned.packages("python")
    assert found["wheel"] == set(read_pins("api", "clients", "ml").items())


def test_every_component_names_a_layer_of_the_image(project: Project) -> None:
    document, report = bill(project, "runtime"), project.builds["runtime"].report
    layers = {layer["diff_id"] for layer in report["layers"]}
    assert {properties_of(part)["layer:diff-id"] for part in document["components"]} <= layers
    (model,) = (part for part in document["components"] if properties_of(part)["kind"] == "model")
    assert model["licenses"] == [{"expression": "MIT", "acknowledgement": "declared"}]
    licensed = [
        part for part in document["components"] if properties_of(part)["kind"] == "wheel" and part.get("licenses")
    ]
    assert len(licensed) == len(read_pins("api", "clients", "ml"))


def test_hardened_holds_the_sbom_that_is_printed(project: Project, podman: Podman, tmp_path: Path) -> None:
    path = "usr/share/sbom/xoe-hardened.cdx.json"
    held = podman.python(project.images["hardened"], f"print(open('/{path}').read())")

    def listed(document: dict[str, Any]) -> list[tuple[str, str, str]]:
        parts = [part for part in document["components"] if properties_of(part)["kind"] != "application"]
        return sorted((properties_of(part)["kind"], part["name"], part["version"]) for part in parts)

    assert listed(held) == listed(bill(project, "hardened"))
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text(json.dumps(held), "utf-8")
    found = scan_image(f"dir:{tmp_path}", tmp_path, "--select-catalogers", "+sbom-cataloger")
    pairs = {(name, version) for kind, name, version in listed(held) if kind == "debian"}
    assert found.packages("deb") == pairs
    assert found.packages("python") == set(read_pins("api", "clients", "ml").items())
