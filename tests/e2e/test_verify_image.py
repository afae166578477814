"""`nox -s verify-image`: an image of a registry is held against the locks; gzip, where the settings ask for it."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.tinyproject import Tiny

pytestmark = pytest.mark.tools


@pytest.fixture
def repository(registry: str, tiny: Tiny) -> str:
    """A repository of this test's own."""
    return f"{registry}/of-{tiny.folder.name.encode().hex()}"


def push(tiny: Tiny, ref: str, *arguments: str) -> None:
    done = tiny.run("push-app", ref, *arguments)
    assert done.code == 0, done.text


def verdict(tiny: Tiny, ref: str, *arguments: str, stage: str = "app") -> dict[str, Any]:
    done = tiny.run("verify-image", stage, ref, "--json", *arguments)
    value: dict[str, Any]
    value, _ = json.JSONDecoder().raw_decode(done.text[done.text.index("{") :])
    assert done.code == (0 if value["holds"] else 1), done.text
    return value


def test_image_pushed_from_this_checkout_is_verified(tiny: Tiny, repository: str) -> None:
    push(tiny, f"{repository}:one")
    found = verdict(tiny, f"{repository}:one")
    assert found["holds"]
    assert found["config"]
    assert found["stage"] == "app"
    assert [layer["name"] for layer in found["layers"]][-1] == "app/app"
    assert (
        f"{repository}:one@{found['digest']}: all 9 layers" in tiny.run("verify-image", "app", f"{repository}:one").text
    )
    assert verdict(tiny, f"{repository}@{found['digest']}")["holds"]


def test_layer_that_the_locks_do_not_produce_is_named_on_both_sides(tiny: Tiny, repository: str) -> None:
    push(tiny, f"{repository}:one")
    tiny.replace("stages/app/app/words.txt", "w", "W")
    tiny.build("app", "--no-import")
    found = verdict(tiny, f"{repository}:one")
    assert not found["holds"]
    assert found["absent"] == ["app/app"]
    assert [layer["name"] for layer in found["layers"]].count(None) == 1
    assert found["unknown"] == []
    text = tiny.run("verify-image", "app", f"{repository}:one").text
    assert "no lock of `app` produces it" in text
    assert "app/app: the image has it otherwise, or not at all" in text


def test_changed_config_alone_is_found(tiny: Tiny, repository: str) -> None:
    push(tiny, f"{repository}:one")
    tiny.replace("stages/app/stage.toml", "hello", "goodbye")
    found = verdict(tiny, f"{repository}:one")
    assert (found["holds"], found["config"], found["absent"], found["unknown"]) == (False, False, [], [])
    assert "the layers agree; their order or the config" in tiny.run("verify-image", "app", f"{repository}:one").text


def test_machine_without_builds_asks_the_remote_cache(
    tiny: Tiny, make_tiny: Callable[[], Tiny], repository: str
) -> None:
    push(tiny, f"{repository}:one", "--cache-write", repository)
    other = make_tiny()
    without = verdict(other, f"{repository}:one")
    assert not without["holds"]
    assert len(without["unknown"]) == 9
    assert "name a remote cache" in other.run("verify-image", "app", f"{repository}:one").text
    assert verdict(other, f"{repository}:one", "--cache", repository)["holds"]
    assert other.blobs() == []  # nothing but manifests and configs was fetched


def test_foreign_or_malformed_image_is_reported(tiny: Tiny, repository: str, template: object) -> None:
    done = tiny.run("verify-image", "app", f"{repository}:none")
    assert done.code == 1
    assert f"error: {repository}:none: there is no such image" in done.text
    push(tiny, f"{repository}:one", "--cache-write", repository)
    verified = tiny.run("verify-image", "app", f"{repository}:cache-of-app")
    assert verified.code == 1
    assert "not an image that can be read" in verified.text
    stage = tiny.run("verify-image", "ap", f"{repository}:one")
    assert stage.code == 2
    assert "did you mean app" in stage.text
    unnamed = tiny.run("verify-image", f"{repository}:one")
    assert unnamed.code == 2
    assert "nox -s verify-image -- STAGE REF" in unnamed.text


def put_manifest(repository: str, tag: str, data: bytes) -> None:
    """Put a manifest as it is: skopeo would read it."""
    host, _, name = repository.partition("/")
    kind = {"Content-Type": "application/vnd.oci.image.manifest.v1+json"}
    request = urllib.request.Request(f"http://{host}/v2/{name}/manifests/{tag}", data, kind, method="PUT")
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 201


def test_image_that_is_another_for_other_programs_is_refused(tiny: Tiny, repository: str) -> None:
    push(tiny, f"{repository}:one")
    plain = tiny.tool("skopeo", "inspect", "--raw", f"docker://{repository}:one").rstrip("\n")
    layers = plain[plain.index('"layers":') + len('"layers":') : -1]
    fewer = json.dumps(json.loads(layers)[:1])
    for tag, text, why in (
        ("cased", f'{plain[:-1]},"Layers":{fewer}}}', "has the key Layers, which some programs take for `layers`"),
        ("doubled", plain.replace('"layers":', f'"layers":{fewer},"layers":', 1), "has the key layers twice"),
        ("unknown", f'{plain[:-1]},"x":1}}', "has the unknown key x"),
        ("noted", f'{plain[:-1]},"annotations":{{"a":"b"}}}}', "its manifest is not the one that a push of the stage"),
        ("retyped", plain.replace("layer.v1.tar+zstd", "layer.v1.tar+gzip"), "its manifest is not the one"),
    ):
        put_manifest(repository, tag, text.encode())
        done = tiny.run("verify-image", "app", f"{repository}:{tag}")
        assert done.code == 1, tag
        assert why in done.text
        assert "are what `app` of this checkout makes" not in done.text
    assert verdict(tiny, f"{repository}:one")["manifest"]


def test_image_is_compared_with_the_stage_of_the_request_not_of_its_label(tiny: Tiny, repository: str) -> None:
    push(tiny, f"{repository}:deps")  # the name of another stage
    found = verdict(tiny, f"{repository}:deps", stage="deps")
    assert (found["stage"], found["holds"], found["manifest"]) == ("deps", False, False)


def test_pushed_image_names_its_commit_and_the_local_one_does_not(tiny: Tiny, repository: str) -> None:
    prefix = "org.opencontainers.image"
    tiny.replace("pyproject.toml", "bytecode = false", "bytecode = false\ncommit-labels = true")
    tiny.build("app")
    push(tiny, f"{repository}:uncommitted")
    made = commit(tiny, "2026-11-28T10:00:00+02:00")
    push(tiny, f"{repository}:one")
    assert "app: nothing changed" in tiny.run("build-app").text
    config = json.loads(tiny.tool("skopeo", "inspect", "--config", f"docker://{repository}:one"))
    assert config["config"]["Labels"][f"{prefix}.revision"] == made
    assert config["config"]["Labels"][f"{prefix}.created"] == config["created"] == "2026-11-28T08:00:00Z"
    for kept in (f"docker://{repository}:uncommitted", "containers-storage:localhost/tiny/app:latest"):
        plain = json.loads(tiny.tool("skopeo", "inspect", "--config", kept))
        assert f"{prefix}.revision" not in plain["config"]["Labels"]
        assert plain["created"] == "1970-01-01T00:00:00Z"
    commit(tiny, "2026-11-29T10:00:00+02:00")  # changes no input
    assert verdict(tiny, f"{repository}:one")["holds"], "it is of an older commit with the same inputs"
    assert verdict(tiny, f"{repository}:uncommitted")["holds"]
    forge_label(tiny, repository, f"{prefix}.revision", "0" * 40)
    assert not verdict(tiny, f"{repository}:forged")["holds"]
    forge_label(tiny, repository, f"{prefix}.created", "2026-11-28T08:00:01Z")
    assert not verdict(tiny, f"{repository}:forged")["holds"]


def commit(tiny: Tiny, when: str) -> str:
    """Commit everything at a time; return the commit's id."""
    who = ("-c", "user.name=x", "-c", "user.email=x@example.org")
    tiny.git("add", "--all")
    command = ("git", *who, "commit", "--quiet", "--allow-empty", "--message=x")
    env = tiny.env | {"GIT_COMMITTER_DATE": when, "GIT_AUTHOR_DATE": when}
    subprocess.run(command, cwd=tiny.project, env=env, check=True)
    shown = subprocess.run(("git", "rev-parse", "HEAD"), cwd=tiny.project, capture_output=True, text=True, check=True)
    return shown.stdout.strip()


def forge_label(tiny: Tiny, repository: str, label: str, value: str) -> None:
    """Push the image again, as ``forged``, with another label."""
    folder = tiny.folder / "forged"
    shutil.rmtree(folder, ignore_errors=True)
    tiny.tool("skopeo", "copy", "--quiet", f"docker://{repository}:one", f"dir:{folder}")
    manifest = json.loads((folder / "manifest.json").read_text())
    config = json.loads((folder / manifest["config"]["digest"].partition(":")[2]).read_text())
    config["config"]["Labels"][label] = value
    data = json.dumps(config, separators=(",", ":"), ensure_ascii=False).encode()
    digest = hashlib.sha256(data).hexdigest()
    (folder / digest).write_bytes(data)
    manifest["config"] |= {"digest": f"sha256:{digest}", "size": len(data)}
    (folder / "manifest.json").write_text(json.dumps(manifest, separators=(",", ":")))
    tiny.tool("skopeo", "copy", "--quiet", f"dir:{folder}", f"docker://{repository}:forged")


def test_gzip_setting_is_verified(tiny: Tiny, repository: str) -> None:
    plain = tiny.build("app").digests()
    tiny.replace("pyproject.toml", "[tool.buildkit]", '[tool.buildkit]\ncompression = "gzip"')
    zipped = tiny.build("app", "--push", f"{repository}:zipped")
    assert zipped.digests() == plain  # the same tars
    assert set(zipped.built()) == set(plain) - {"base/image"}  # the registry's own image stays as it is
    raw = tiny.tool("skopeo", "inspect", "--raw", f"docker://{repository}:zipped")
    kinds = {layer["mediaType"].rpartition(".")[2] for layer in json.loads(raw)["layers"][-8:]}
    assert kinds == {"tar+gzip", "tar"}  # models that do not shrink stay as they are
    assert tiny.run_image("app") == "hello from /app\n"
    assert tiny.build("app").built() == {}
