"""Models as an image of their own, mounted by the containers of a stage."""

from __future__ import annotations

import json

import pytest

from tests.e2e.tinyproject import Tiny, one_error

pytestmark = pytest.mark.tools
_READ = ("--", "/bin/sh", "-c", "cat /models/speller/weights.txt; ! echo x > /models/speller/x")
_KEY = "io.xoe.buildkit.models"


@pytest.fixture
def mounting(tiny: Tiny) -> Tiny:
    tiny.replace("stages/app/stage.toml", "ships = true", 'ships = true\nmodels = "mount"')
    return tiny


def test_imported_models_are_mounted(mounting: Tiny) -> None:
    mounting.see_store(seen=False)
    done = mounting.run("run-app", *_READ)
    assert done.code == 0, done.text
    assert (mounting.project / "models/speller/weights.txt").read_text() in done.text


def test_models_are_built_mounted_and_checked(mounting: Tiny) -> None:
    tiny = mounting
    tiny.see_store(seen=True)
    weights = (tiny.project / "models/speller/weights.txt").read_text()
    together = tiny.build("models").digests()
    done = tiny.run("run-app", *_READ)
    assert done.code == 0, done.text
    assert weights in done.text
    assert "Read-only file system" in done.text
    own, models = tiny.inspect("app"), tiny.inspect("app-models")
    assert own["Config"]["Labels"][_KEY] == models["Config"]["Labels"][_KEY]
    assert set(together.values()) < {*models["RootFS"]["Layers"]}, "the layers are those of the stage"
    assert not {*together.values()} & {*own["RootFS"]["Layers"]}
    assert tiny.run("cache", "gc").code == 0
    assert tiny.run("run-app", "--no-build", *_READ).code == 0, "gc keeps what an image in the user's storage stands on"
    again = tiny.build("app")
    assert again.built() == {}
    assert again.report is not None
    assert again.report["models"]["image"] == "localhost/tiny/app-models:latest"
    assert again.report["models"]["bytes"]["imported"] == 0
    before = again.digests()

    tiny.write("models/speller/weights.txt", "other weights\n")
    assert tiny.lock().code == 0
    changed = tiny.build("app")
    assert changed.digests() == before, "only the label of the image changed"
    assert changed.report is not None
    built = [layer["name"] for layer in changed.report["models"]["layers"] if layer["source"] == "built"]
    assert built == ["models/speller", "app-models/sbom"]
    assert "other weights" in tiny.run("run-app", "--no-build", *_READ).text
    tiny.tool("podman", "tag", models["Id"], "localhost/tiny/app-models:latest")
    message = one_error(tiny.run("run-app", "--no-build"), 1)
    assert "has other models than localhost/tiny/app:latest was built for" in message
    assert "hint: nox -s build-app" in message
    tiny.tool("podman", "rmi", "localhost/tiny/app-models:latest")
    message = one_error(tiny.run("run-app", "--no-build"), 1)
    assert "localhost/tiny/app-models:latest is not in local storage" in message


def test_models_are_pushed_beside_the_image_that_names_them(mounting: Tiny, registry: str) -> None:
    tiny = mounting
    ref = f"{registry}/mounted/app"
    pushed = tiny.run("push-app", f"{ref}:1", "--attest")
    assert pushed.code == 0, pushed.text
    assert pushed.report is not None
    (one,) = pushed.report["models"]["pushed"]
    assert one["ref"] == f"{ref}:1-models"
    manifest = json.loads(tiny.tool("skopeo", "inspect", "--raw", f"docker://{ref}:1"))
    assert manifest["annotations"] == {_KEY: one["digest"]}
    for stage, tag in (("app", "1"), ("app-models", "1-models")):
        done = tiny.run("verify-image", stage, f"{ref}:{tag}", "--attested")
        assert done.code == 0, done.text

    tiny.tool("skopeo", "copy", "--quiet", f"docker://{ref}:1", f"dir:{tiny.folder}/copy")
    manifest["annotations"][_KEY] = "sha256:" + "0" * 64
    (tiny.folder / "copy/manifest.json").write_text(json.dumps(manifest, separators=(",", ":")))
    tiny.tool("skopeo", "copy", "--quiet", f"dir:{tiny.folder}/copy", f"docker://{ref}:forged")
    done = tiny.run("verify-image", "app", f"{ref}:forged")
    assert done.code == 1
    assert "its manifest is not the one that a push of the stage writes" in done.text
