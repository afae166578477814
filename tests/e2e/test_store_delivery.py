"""Builds into the image store: podman runs what was built without an import, and a layer is stored once."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.tinyproject import Tiny
from tests.reflinks import sharing_blocks, used_bytes

pytestmark = pytest.mark.tools
APP = "localhost/tiny/app:latest"
OVERTAKEN = """from dataclasses import replace
from buildkit.build import stage_build
uncover = stage_build.uncover
def overtaken(image, ref, context, *, uncover=uncover):
    context.image_store.put_image(replace(image, created="2001-01-01T00:00:00Z"), (ref,))
    uncover(image, ref, context)
stage_build.uncover = overtaken
"""  # code for `Tiny.after`: another build delivers an image of the same name at the same time


@pytest.fixture
def seeing(tiny: Tiny) -> Tiny:
    """A project of a user whose podman sees the image store."""
    tiny.see_store(seen=True)
    return tiny


def trees(tiny: Tiny) -> set[str]:
    return {path.name for path in (tiny.store / "trees").glob("*.json")}


def blobs(tiny: Tiny) -> int:
    return len(list(tiny.cache.glob("sha256/*")))


def own_images(tiny: Tiny) -> list[object]:
    """Return the records of the user's own storage, which an import would have filled."""
    path = tiny.folder / "graph/overlay-images/images.json"
    return list(json.loads(path.read_text())) if path.exists() else []


def test_image_is_the_one_that_an_import_gives_and_podman_runs_it(seeing: Tiny, make_tiny: Callable[[], Tiny]) -> None:
    imported = make_tiny().build("app")
    built = seeing.build("app")
    assert built.report["digest"] == imported.report["digest"]
    assert built.digests() == imported.digests()
    assert seeing.run_image("app") == "hello from /app\n"
    assert own_images(seeing) == []
    assert "run it: " in built.text
    assert "imported" not in built.text
    plan = seeing.run("plan", "app").text
    assert plan.startswith("app: nothing to build: ")
    again = seeing.build("app")
    assert again.built() == {}
    assert (imported.report["delivery"], again.report["delivery"]) == ("import", "store")
    assert again.report["bytes"] == {"fetched": 0, "built": 0, "imported": 0, "pushed": 0}


def test_change_costs_its_own_layer(seeing: Tiny) -> None:
    seeing.build("app")
    before = trees(seeing)
    seeing.write("stages/app/app/main.sh", 'echo "$GREETING again"\n')
    changed = seeing.build("app")
    assert changed.built() == {"app/app": "stages/app/app/main.sh changed"}
    assert len(trees(seeing) - before) == 1
    assert seeing.run_image("app") == "hello again\n"


def test_layers_that_are_built_have_no_second_copy(seeing: Tiny) -> None:
    built = seeing.build("app")
    pulled = [layer for layer in built.report["layers"] if layer["kind"] == "image"]
    assert blobs(seeing) == len(pulled), "those of the registry alone"
    assert {layer["digest"] for layer in built.report["layers"] if layer["kind"] == "files"} == {""}


def test_cache_that_was_emptied_breaks_no_image(seeing: Tiny) -> None:
    seeing.build("app")
    shutil.rmtree(seeing.cache)
    assert seeing.run_image("app") == "hello from /app\n"


def test_push_compresses_each_layer_once(seeing: Tiny, make_tiny: Callable[[], Tiny], registry: str) -> None:
    ref = f"{registry}/image-store/push"
    seeing.build("app")
    first = seeing.run("push-app", f"{ref}:one")
    assert first.code == 0, first.text
    assert "compress" in first.text
    again = seeing.run("push-app", f"{ref}:two")
    assert "compress" not in again.text
    other = make_tiny()
    other.run("push-app", f"{ref}:three")
    inspect = ("skopeo", "inspect", "--format={{.Digest}}")
    digests = {other.tool(*inspect, f"docker://{ref}:{name}") for name in ("one", "two", "three")}
    assert len(digests) == 1


def test_blobs_that_the_registry_lacks_are_made_again(seeing: Tiny, registry: str) -> None:
    seeing.build("app")
    assert seeing.run("push-app", f"{registry}/image-store/again:1").code == 0
    for path in seeing.cache.glob("sha256/*"):
        path.unlink()
    pushed = seeing.run("push-app", f"{registry}/image-store/elsewhere:1")
    assert pushed.code == 0, pushed.text
    assert pushed.built() == {}


def test_remote_cache_gives_layers_to_a_machine_that_delivers_into_its_store(
    seeing: Tiny, make_tiny: Callable[[], Tiny], registry: str
) -> None:
    cache = f"{registry}/image-store/cache"
    assert seeing.run("build-app", "--cache-write", cache).code == 0
    other = make_tiny()
    other.see_store(seen=True)
    built = other.build("app", "--cache", cache)
    assert {layer["source"] for layer in built.report["layers"]} == {"shared"}
    assert other.run_image("app") == "hello from /app\n"


def test_layers_of_the_store_are_used_with_an_empty_cache_that_learns_of_them_from_a_remote_one(
    seeing: Tiny, registry: str
) -> None:
    cache = f"{registry}/image-store/known"
    seeing.build("app")
    assert seeing.run("push-app", f"{cache}:1", "--cache-write", cache).code == 0
    other = str(seeing.folder / "other-cache")
    pushed = seeing.run("push-app", f"{cache}:2", "--cache", cache, BUILDKIT_CACHE=other)
    assert pushed.code == 0, pushed.text
    assert pushed.built() == {}


def test_image_of_the_same_name_in_the_users_own_storage_gives_it_up(seeing: Tiny) -> None:
    seeing.build("app")
    seeing.tool("buildah", "from", "--name", "other", "scratch")
    seeing.tool("buildah", "commit", "--quiet", "other", APP)
    seeing.tool("buildah", "rm", "other")
    (theirs,) = own_images(seeing)
    assert seeing.build("app").built() == {}
    assert seeing.run_image("app") == "hello from /app\n"
    (kept,) = own_images(seeing)
    assert kept["id"] == theirs["id"], "it has lost the name only"


def test_steps_start_from_the_store_and_their_commit_does_not_stay(seeing: Tiny) -> None:
    built = seeing.build("tools")
    assert any(layer["kind"] == "run" for layer in built.report["layers"])
    assert own_images(seeing) == []
    assert seeing.run_image("tools", "cat", "/opt/tools/copy").startswith("of the")


def test_delivery_is_an_import_where_podman_does_not_see_the_store(tiny: Tiny) -> None:
    tiny.build("app")
    assert len(own_images(tiny)) > 0
    assert not tiny.store.exists()


def test_layers_of_the_store_are_imported_where_that_is_asked_for(seeing: Tiny) -> None:
    seeing.build("app")
    built = seeing.build("app", BUILDKIT_DELIVERY="import")
    assert built.built() == {}
    assert len(own_images(seeing)) > 0
    seeing.see_store(seen=False)
    assert seeing.run_image("app") == "hello from /app\n"


def test_record_without_a_name_in_the_users_own_storage_does_not_hide_the_image(seeing: Tiny) -> None:
    seeing.build("app", BUILDKIT_DELIVERY="import")
    seeing.see_store(seen=False)
    seeing.tool("podman", "untag", APP)
    seeing.see_store(seen=True)
    seeing.build("app")
    assert seeing.run_image("app") == "hello from /app\n"


@pytest.mark.parametrize("copy", ["pulled", "loaded"])
def test_copy_of_the_image_in_the_users_own_storage_keeps_its_names(seeing: Tiny, registry: str, copy: str) -> None:
    seeing.build("app")
    pushed, mine = f"{registry}/image-store/copied:1", "localhost/mine:1"
    if copy == "pulled":
        assert seeing.run("push-app", pushed).code == 0
        seeing.tool("podman", "pull", "--quiet", "--tls-verify=false", pushed)
        seeing.tool("podman", "tag", pushed, mine)
    else:
        seeing.tool("podman", "tag", APP, mine)
        seeing.tool("podman", "save", "--quiet", f"--output={seeing.folder}/saved.tar", APP)
        seeing.tool("podman", "load", "--quiet", f"--input={seeing.folder}/saved.tar")
    for _ in range(2):
        assert seeing.build("app").built() == {}
        (own,) = own_images(seeing)
        assert {mine, pushed} >= set(own["names"]) - {APP} >= ({mine, pushed} if copy == "pulled" else {mine})
        assert seeing.inspect("app")["Healthcheck"]["Test"] == ["CMD", "/bin/sh", "-c", "exit 0"]
    seeing.write("stages/app/app/main.sh", 'echo "$GREETING again"\n')
    seeing.build("app")
    assert seeing.run_image("app") == "hello again\n"
    assert seeing.tool("podman", "run", "--rm", "--network=none", mine) == "hello from /app\n"


def test_layer_that_was_altered_is_built_again_when_it_is_needed(seeing: Tiny, registry: str) -> None:
    built = seeing.build("app")
    (diff_id,) = (layer["diff_id"] for layer in built.report["layers"] if layer["name"] == "app/app")
    (seeing.store / "trees" / diff_id.partition(":")[2] / "app/main.sh").write_text("echo altered\n")
    pushed = seeing.run("push-app", f"{registry}/image-store/altered:1")
    assert pushed.code == 0, pushed.text
    assert "planning again" in pushed.text
    seeing.build("app")
    assert seeing.run_image("app") == "hello from /app\n"


def test_build_whose_name_another_build_has_moved_since_succeeds(seeing: Tiny) -> None:
    with seeing.after(OVERTAKEN):
        seeing.build("app")
    assert seeing.inspect("app")["Created"].startswith("2001-01-01"), "the last one has the name, as with imports"
    assert own_images(seeing) == []


def test_models_share_the_blocks_of_the_checkout_where_the_file_system_can(
    make_tiny: Callable[[], Tiny], tmp_path: Path
) -> None:
    tiny, elsewhere, weights = make_tiny(), make_tiny(), os.urandom(12 << 20)
    with sharing_blocks(tmp_path) as place:
        tiny.project, tiny.store = Path(shutil.move(tiny.project, place / "project")), place / "store"
        tiny.env["BUILDKIT_STORE"] = str(tiny.store)
        for one in (tiny, elsewhere):
            one.see_store(seen=True)
            (one.project / "models/greeter/net.bin").write_bytes(weights)
            one.lock()
        before = used_bytes(place)
        built = tiny.build("models")
        assert used_bytes(place) - before < 2 << 20
        assert built.digests() == elsewhere.build("models").digests()
        (tree,) = tiny.store.glob("trees/*/models/greeter/net.bin")
        assert tree.read_bytes() == weights
