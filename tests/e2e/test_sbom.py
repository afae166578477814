"""`nox -s sbom`: the SBOM of an image, compared with the findings of an independent scanner."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.survival import damage, find_blob
from tests.e2e.tinyproject import Tiny, one_error
from tests.layers.wheelmaker import make_wheel
from tests.scanner import scan_image

pytestmark = pytest.mark.tools


def make_sbom(tiny: Tiny, stage: str, *options: str) -> dict[str, Any]:
    file = tiny.folder / "sbom.json"
    ended = tiny.run("sbom", stage, "--output", str(file), *options)
    assert ended.code == 0, ended.text
    value: dict[str, Any] = json.loads(file.read_text())
    return value


def properties_of(component: dict[str, Any]) -> dict[str, str]:
    return {entry["name"].removeprefix("buildkit:"): entry["value"] for entry in component["properties"]}


def test_sbom_lists_what_a_scanner_finds_in_the_pushed_image(tiny: Tiny, registry: str, tmp_path: Path) -> None:
    ref = f"{registry}/of-{tiny.folder.name.encode().hex()}:one"
    done = tiny.run("push-tools", ref)
    assert done.code == 0, done.text
    document = make_sbom(tiny, "tools")
    layers = json.loads(tiny.tool("skopeo", "inspect", "--raw", f"docker://{ref}"))["layers"]
    wheels = {part["name"]: part for part in document["components"] if properties_of(part)["kind"] == "wheel"}
    scanned = scan_image(f"registry:{ref}", tmp_path)
    assert {(name, part["version"]) for name, part in wheels.items()} == scanned.packages("python")
    assert scanned.packages("deb") == set()
    assert {name: properties_of(part)["layer:diff-id"] for name, part in wheels.items()} == scanned.layers("python")
    digests = [
        blob["name"] for layer in document["metadata"]["component"]["components"] for blob in layer["components"]
    ]
    assert digests == [layer["digest"] for layer in layers]
    assert {properties_of(part)["layer:digest"] for part in document["components"]} <= set(digests)
    config = json.loads(tiny.tool("skopeo", "inspect", "--raw", f"docker://{ref}"))["config"]["digest"]
    assert properties_of(document["metadata"]["component"])["image:config"] == config


def test_sbom_needs_only_locks_and_a_build_adds_digests(tiny: Tiny) -> None:
    before = tiny.run("sbom", "app")
    assert before.code == 0, before.text
    assert "9 of 9 layers were never made here" in before.text
    assert tiny.blobs() == []
    bare = make_sbom(tiny, "app")
    tiny.build("app", "--no-import")
    whole = make_sbom(tiny, "app")
    names = [[(part["name"], part.get("version")) for part in one["components"]] for one in (bare, whole)]
    assert names[0] == names[1]
    assert all("layer:digest" in properties_of(part) for part in whole["components"])
    assert make_sbom(tiny, "app") == whole
    assert whole["serialNumber"] != bare["serialNumber"]


def test_sbom_does_not_depend_on_cached_wheels(tiny: Tiny, tmp_path: Path) -> None:
    tiny.build("app", "--no-import")
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    assert tiny.run("sbom", "app", "--format", "spdx", "--output", str(first)).code == 0
    wheels = list(tiny.cache.glob("files/*/*.whl"))
    assert wheels
    for wheel in wheels:
        wheel.unlink()  # as after a build that took its layers from a remote cache
    assert tiny.run("sbom", "app", "--format", "spdx", "--output", str(second)).code == 0
    text = first.read_text()
    assert second.read_text() == text
    assert '"licenseComments": "its metadata names none"' in text
    assert text.count('"referenceLocator": "pkg:pypi/') == 4


def test_sbom_names_the_commit_and_whether_files_differ_from_it(tiny: Tiny) -> None:
    clean = make_sbom(tiny, "app")
    head = (tiny.project / ".git/refs/heads/main").read_text().strip()
    assert properties_of(clean["metadata"]["component"]) == {
        "arch": properties_of(clean["metadata"]["component"])["arch"],
        "commit": head,
        "dirty": "false",
    }
    assert "timestamp" in clean["metadata"]
    tiny.replace("stages/app/app/words.txt", "w", "W")
    changed = make_sbom(tiny, "app")
    assert properties_of(changed["metadata"]["component"])["dirty"] == "true"
    assert "timestamp" not in changed["metadata"]


def test_sbom_takes_licences_from_wheels(tiny: Tiny) -> None:
    metadata = "Metadata-Version: 2.4\nName: delta\nVersion: 1.0\nLicense-Expression: MIT\n"
    make_wheel(tiny.folder / "links", {"delta.py": b""}, name="delta", METADATA=metadata)
    tiny.write("requirements/app.in", "delta==1.0\n")
    tiny.lock()
    tiny.build("app", "--no-import")
    (delta,) = (part for part in make_sbom(tiny, "app")["components"] if part["name"] == "delta")
    assert delta["licenses"] == [{"expression": "MIT", "acknowledgement": "declared"}]


def test_sbom_time_is_that_of_source_date_epoch(tiny: Tiny) -> None:
    ended = tiny.run("sbom", "app", SOURCE_DATE_EPOCH="1000000000")
    assert '"timestamp": "2001-09-09T01:46:40Z"' in ended.text


def test_sbom_reports_a_damaged_layer(tiny: Tiny) -> None:
    tiny.build("app", "--no-import")
    damage(find_blob(tiny, "base/image"), "flipped")
    message = one_error(tiny.run("sbom", "app"), 1)
    assert re.search(r"layer \w+ of the cache (cannot be read|holds other bytes than were packed)", message)
    assert "hint: run: nox -s cache -- verify" in message


def test_sbom_refuses_wrong_requests(tiny: Tiny) -> None:
    assert tiny.run("sbom", "ap").code == 2
    assert tiny.run("sbom", "app", "--format", "xml").code == 2
    assert tiny.run("sbom", "app", "--output", "/nowhere/x.json").code == 2
