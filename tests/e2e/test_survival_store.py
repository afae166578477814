"""Builds that deliver into the image store: killed, damaged, many at once, and cleaned up after."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time

import pytest

from buildkit.digest import DiffId
from buildkit.imagestore.image_store import ImageStore
from tests.e2e.survival import make_rng
from tests.e2e.tinyproject import Tiny, one_error

pytestmark = pytest.mark.tools


@pytest.fixture
def seeing(tiny: Tiny) -> Tiny:
    tiny.see_store(seen=True)
    return tiny


def open_store(tiny: Tiny) -> ImageStore:
    return ImageStore.open(tiny.store)


def altered(tiny: Tiny) -> list[str]:
    """Return what is wrong with the trees of a store."""
    store = open_store(tiny)
    return [found for diff_id in store.trees.all() if (found := store.find_alteration(diff_id))]


def change(tiny: Tiny, word: str) -> None:
    tiny.write("stages/app/app/main.sh", f'echo "$GREETING {word}"\n')


def test_altered_tree_is_named_by_verify_and_replaced_by_the_next_build(seeing: Tiny) -> None:
    built = seeing.build("app")
    tree = open_store(seeing).trees.path(DiffId.parse(built.digests()["app/app"]))
    script = next(path for path in tree.rglob("main.sh"))
    script.write_text("echo altered\n")
    assert seeing.run_image("app") == "altered\n"
    found = seeing.run("cache", "verify")
    assert found.code == 1, found.text
    assert "main.sh is 14 bytes too short" in found.text
    again = seeing.build("app")
    assert set(again.built()) == {"app/app"}
    assert "found by verify" in again.built()["app/app"]
    assert seeing.run_image("app") == "hello from /app\n"
    assert altered(seeing) == []


def test_tree_that_turns_out_damaged_during_a_push_is_built_again(seeing: Tiny, registry: str) -> None:
    built = seeing.build("app")
    tree = open_store(seeing).trees.path(DiffId.parse(built.digests()["app/app"]))
    next(path for path in tree.rglob("main.sh")).write_text("echo altered\n")
    pushed = seeing.run("push-app", f"{registry}/image-store/damaged:1")
    assert pushed.code == 0, pushed.text
    assert "main.sh is 14 bytes too short; planning again" in pushed.text
    assert open_store(seeing).is_damaged(DiffId(tree.name))
    seeing.build("app")
    assert seeing.run_image("app") == "hello from /app\n"
    assert altered(seeing) == []


def test_gc_frees_what_a_change_left_but_not_under_a_container(seeing: Tiny) -> None:
    seeing.build("app")
    name = seeing.tool("podman", "create", "--network=none", "localhost/tiny/app:latest").strip()
    change(seeing, "again")
    seeing.build("app")
    count = len(open_store(seeing).trees.all())
    assert seeing.run("cache", "gc", "--keep-days", "0").code == 0
    assert seeing.tool("podman", "start", "--attach", name) == "hello from /app\n"
    seeing.tool("podman", "rm", name)
    assert seeing.run("cache", "gc", "--keep-days", "0").code == 0
    assert len(open_store(seeing).trees.all()) == count - 1
    assert len(open_store(seeing).images()) == 1
    assert seeing.run_image("app") == "hello again\n"
    assert seeing.build("app").built() == {}


def test_killed_builds_leave_whole_images_and_the_next_one_succeeds(seeing: Tiny) -> None:
    began = time.monotonic()
    seeing.build("app")
    usual, chance = time.monotonic() - began, make_rng("store")
    for number in range(5):
        change(seeing, str(number))
        child = seeing.start("app")
        time.sleep(chance.uniform(usual / 4, usual))
        os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
        assert seeing.run_image("app").startswith("hello ")
    assert altered(seeing) == []
    change(seeing, "at last")
    seeing.build("app")
    assert seeing.run_image("app") == "hello at last\n"
    assert list((seeing.store / "tmp").iterdir()) == []
    assert seeing.run("cache", "verify").code == 0


def test_eight_builds_at_once_make_one_image(seeing: Tiny) -> None:
    argv = seeing.argv("build-app")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    children = [subprocess.Popen(argv, cwd=seeing.folder, env=seeing.env, text=True, **pipes) for _ in range(8)]
    texts = [child.communicate()[0] for child in children]
    assert [child.returncode for child in children] == [0] * 8, "\n".join(texts)
    assert altered(seeing) == []
    assert len(open_store(seeing).images()) == 1
    assert seeing.run_image("app") == "hello from /app\n"
    layers = json.loads((seeing.store / "overlay-layers/layers.json").read_bytes())
    assert len({layer["id"] for layer in layers}) == len(layers)


def test_build_with_nothing_to_do_makes_up_for_what_somebody_deleted(seeing: Tiny) -> None:
    built = seeing.build("app")
    layers = json.loads((seeing.store / "overlay-layers/layers.json").read_bytes())
    top = {layer["diff-digest"]: layer["id"] for layer in layers}[built.digests()["app/app"]]
    tree = seeing.store / "trees" / built.digests()["app/app"].partition(":")[2]
    for lost in (tree, seeing.store / "overlay" / top, seeing.store / "overlay-layers", seeing.store / "overlay/l"):
        shutil.rmtree(lost)
        again = seeing.build("app")
        assert set(again.built()) == ({"app/app"} if lost == tree else set())
        assert seeing.run_image("app") == "hello from /app\n"
    assert seeing.build("app").report["bytes"]["imported"] == 0
    assert altered(seeing) == []


def test_layer_of_which_the_facts_are_damaged_is_built_again(seeing: Tiny) -> None:
    built = seeing.build("app")
    (seeing.store / "trees" / f"{built.digests()['app/app'].partition(':')[2]}.json").write_text('{"unpacked": 1')
    (seeing.store / "overlay-layers/layers.json").unlink()
    assert set(seeing.build("app").built()) == {"app/app"}
    assert seeing.run_image("app") == "hello from /app\n"


def test_store_of_a_newer_version_ends_the_build_with_one_message(seeing: Tiny) -> None:
    seeing.build("app")
    (seeing.store / "version").write_text("9\n")
    text = one_error(seeing.run("build-app"), 1)
    assert "the image store is of version 9, and this buildkit knows version 1" in text
    assert "BUILDKIT_STORE=/path" in text
