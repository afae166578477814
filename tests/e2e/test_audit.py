"""`nox -s audit`: a stage, an image of a registry, a layout, and a deliberately bad one, by the real tools."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import zstandard

from tests.audit.crafted import CONFIG, GOOD, capable, file, folder, program, tar
from tests.audit.samples import PEM, TOKENS
from tests.e2e.tinyproject import SessionResult, Tiny

pytestmark = pytest.mark.tools
_SCHEMA = Path(__file__).parents[1] / "report/schemas/sarif-schema-2.1.0.json"
_OCI = "application/vnd.oci.image"


def audited(tiny: Tiny, *arguments: str, code: int = 0) -> dict[str, Any]:
    done = tiny.run("audit", "--json", *arguments)
    assert done.code == code, done.text
    value: dict[str, Any]
    value, _ = json.JSONDecoder().raw_decode(done.text[done.text.index("{") :])
    assert value["failed"] == bool(code)
    return value


def rules(found: dict[str, Any]) -> set[str]:
    return {finding["rule"] for finding in found["findings"]}


def write_layout(place: Path, config: dict[str, Any], *layers: tuple[str, bytes]) -> None:
    """An OCI layout; layers are (compression, tar)."""
    blobs = place / "blobs/sha256"
    blobs.mkdir(parents=True)

    def keep(kind: str, data: bytes) -> dict[str, object]:
        digits = hashlib.sha256(data).hexdigest()
        (blobs / digits).write_bytes(data)
        return {"mediaType": f"{_OCI}.{kind}", "size": len(data), "digest": f"sha256:{digits}"}

    pack = {"": bytes, "+gzip": gzip.compress, "+zstd": zstandard.ZstdCompressor().compress}
    stored = [keep(f"layer.v1.tar{how}", pack[how](data)) for how, data in layers]
    ids = [f"sha256:{hashlib.sha256(data).hexdigest()}" for _, data in layers]
    whole = {"architecture": "amd64", "os": "linux", "config": config, "rootfs": {"type": "layers", "diff_ids": ids}}
    kept = keep("config.v1+json", json.dumps(whole).encode())
    manifest = {"schemaVersion": 2, "mediaType": f"{_OCI}.manifest.v1+json", "config": kept, "layers": stored}
    top = keep("manifest.v1+json", json.dumps(manifest).encode())
    (place / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [top]}))
    (place / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


def test_audit_of_a_stage_does_not_depend_on_where_its_layers_are(tiny: Tiny, registry: str) -> None:
    unbuilt = tiny.run("audit", "app", "--at-rest")
    assert unbuilt.code == 1
    assert "nox -s build-app" in unbuilt.text
    tiny.build("app")
    found = audited(tiny, "app", "--at-rest")
    assert (found["stage"], found["user"], found["parts"]) == ("app", "1000", {"at rest": None})
    assert rules(found) == {"shell"}
    assert f"{registry}/tiny/root@sha256:" in found["pinned"]
    assert found["files"] > 20
    assert rules(audited(tiny, "app", "--at-rest", "--fail-on", "medium", code=1)) == {"shell"}

    name = f"{registry}/audited-{tiny.folder.name.encode().hex()}"
    assert tiny.run("push-app", f"{name}:1.0").code == 0
    assert rules(audited(tiny, f"{name}:1.0")) == {"shell"}
    assert rules(audited(tiny, "localhost/tiny/app:latest")) == {"shell"}
    for blob in tiny.blobs():
        (tiny.cache / "sha256" / blob).unlink()
    assert rules(audited(tiny, "app", "--at-rest")) == {"shell"}  # out of local storage
    tiny.replace("stages/app/app/words.txt", "w", "W")
    changed = tiny.run("audit", "app", "--at-rest")
    assert changed.code == 1
    assert "not built in its present state" in changed.text


def test_audit_of_a_layout_finds_every_planted_problem(tiny: Tiny, tmp_path: Path) -> None:
    token = TOKENS["GitHub token"]
    bad = [
        file("srv/id_rsa", PEM.encode()),
        capable("usr/libexec/ping", 21),
        program("usr/bin/bash"),
        folder("var/open\n\x1b[2J", 0o777),
    ]
    gone = [file("srv/.wh.id_rsa"), folder("app", uid=1000)]
    layout = tmp_path / "layout"
    config = CONFIG | {"Env": [*CONFIG["Env"], f"TOKEN={token}"], "Healthcheck": None}
    write_layout(layout, config, ("", tar(GOOD)), ("+gzip", tar(bad)), ("+zstd", tar(gone)))
    report = tmp_path / "report.sarif"
    found = audited(tiny, f"oci:{layout}", "--sarif", str(report), code=1)
    assert rules(found) == {
        "secret-in-layer", "secret-in-config", "file-capability", "shell", "world-writable", "odd-name",
        "writable-code", "no-healthcheck",
    }  # fmt: skip
    (key,) = (one for one in found["findings"] if one["rule"] == "secret-in-layer")
    assert key["path"] == "srv/id_rsa"
    assert key["layer"] == found["layers"][1]["digest"]
    assert "deletes it" in key["what"]
    sarif = json.loads(report.read_text())
    jsonschema.Draft4Validator(json.loads(_SCHEMA.read_text())).validate(sarif)
    assert {one["ruleId"] for one in sarif["runs"][0]["results"]} == rules(found)

    printed = tiny.run("audit", f"oci:{layout}", "--fail-on", "never")
    assert printed.code == 0
    assert "critical  secret-in-layer" in printed.text
    assert token not in printed.text + report.read_text()
    assert "\x1b[2J" not in printed.text
    assert "var/open\\n\\x1b[2J" in printed.text


def refused(done: SessionResult, code: int, words: str) -> None:
    assert done.code == code, done.text
    assert "Traceback" not in done.text
    assert words in done.text


def test_audit_refuses_anything_but_an_image(tiny: Tiny, tmp_path: Path) -> None:
    refused(tiny.run("audit", "no image"), 2, "is neither a stage nor an image")
    refused(tiny.run("audit", "app", "--fail-on", "awful"), 2, "not one of")
    layout = tmp_path / "layout"
    write_layout(layout, CONFIG, ("", b"noise" * 1000))
    refused(tiny.run("audit", f"oci:{layout}"), 1, "is damaged")
    refused(tiny.run("audit", f"oci:{layout}", "--running"), 2, "is not started")
    refused(tiny.run("audit", f"oci:{tmp_path}/nothing"), 1, "error: ")
