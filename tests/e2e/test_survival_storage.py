"""Images removed by other programs are delivered again; a clock that is set back does no harm."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.e2e.conftest import new_tiny
from tests.e2e.survival import find_blob, left_behind, unsound
from tests.e2e.tinyproject import Tiny
from tests.ledgers import update_checksums
from tests.waiting import wait_until

pytestmark = [pytest.mark.tools, pytest.mark.usefixtures("imports")]

_STEP = """summary = "app on a root that steps extend"
from = "app"
[[run]]
name = "one"
script = "echo one > /opt/one"
[[run]]
name = "two"
script = "echo two > /opt/two"
"""
_DAY = 24 * 3600


@pytest.fixture(scope="module")
def stepped(template: Path, registry: str, links: Path) -> Iterator[tuple[Tiny, str]]:
    """A project whose `tools` are built before and after each test, and their digest."""
    tiny = new_tiny(template, registry, links)
    tiny.write("stages/tools/stage.toml", _STEP)
    yield tiny, tiny.build("tools").report["digest"]
    tiny.remove()


def look_at(tiny: Tiny, digest: str, *, built: set[str]) -> None:
    """Build the image again, which must rebuild only these layers."""
    ended = tiny.build("tools")
    assert ended.report["digest"] == digest, ended.text
    assert ended.built().keys() == built
    assert ended.report["bytes"]["imported"] > 0
    assert tiny.run_image("tools", "/bin/sh", "-c", "cat /opt/one /opt/two /app/words.txt") == "one\ntwo\nsome words\n"
    assert unsound(tiny) == []
    assert left_behind(tiny) == []
    assert tiny.build("tools").report["bytes"]["imported"] == 0


def test_removed_images_are_delivered_again(stepped: tuple[Tiny, str]) -> None:
    tiny, digest = stepped
    tiny.tool("podman", "rmi", "--all", "--force")
    assert tiny.images() == {}
    look_at(tiny, digest, built=set())


def test_removed_images_and_blobs_are_rebuilt(stepped: tuple[Tiny, str]) -> None:
    """First some blobs of layers, steps and the root, then all."""
    tiny, digest = stepped
    gone = {"deps/bulk", "tools/one", "base/image"}
    for layer in gone:
        find_blob(tiny, layer).unlink()
    tiny.tool("podman", "rmi", "--all", "--force")
    look_at(tiny, digest, built=gone)
    everything = {layer["name"] for layer in tiny.build("tools").report["layers"]}
    tiny.tool("podman", "rmi", "--all", "--force")
    shutil.rmtree(tiny.cache / "sha256")
    look_at(tiny, digest, built=everything)


def test_removed_base_images_are_imported_again(stepped: tuple[Tiny, str]) -> None:
    """First with their blobs; then without, when other images still have their layers, but no container starts."""
    tiny, digest = stepped
    for word in ("three", "four", "five"):
        tiny.write("stages/tools/stage.toml", _STEP.replace("echo two", f"echo {word}"))
        ended = tiny.build("tools")
        assert "tools/two" in ended.built()
        assert tiny.run_image("tools", "/bin/sh", "-c", "cat /opt/one /opt/two") == f"one\n{word}\n"
        assert left_behind(tiny) == []
        serving = [name for name in tiny.images() if ":root-" in name]
        assert serving != []
        tiny.tool("buildah", "rmi", "--force", *serving)
        if word == "four":
            find_blob(tiny, "base/image").unlink()
            find_blob(tiny, "tools/one").unlink()
    tiny.write("stages/tools/stage.toml", _STEP)
    tiny.tool("podman", "rmi", "--all", "--force")
    look_at(tiny, digest, built={"base/image", "tools/one"})


def test_removed_image_name_is_delivered_again(stepped: tuple[Tiny, str]) -> None:
    """Only layers that no other image has are removed with it."""
    tiny, digest = stepped
    tiny.build("app")
    known = tiny.build("tools")
    tiny.tool("buildah", "rmi", "localhost/tiny/tools:latest")
    look_at(tiny, digest, built=set())
    tiny.tool("buildah", "rmi", "localhost/tiny/tools:latest")
    (digest_of_two,) = (layer["digest"] for layer in known.report["layers"] if layer["name"] == "tools/two")
    (tiny.cache / "sha256" / digest_of_two.removeprefix("sha256:")).unlink()
    look_at(tiny, digest, built={"tools/two"})


def test_deleted_storage_is_filled_again(stepped: tuple[Tiny, str]) -> None:
    tiny, digest = stepped
    mounts = [line.split(" ")[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for mount in sorted((path for path in mounts if path.startswith(f"{tiny.folder}/")), reverse=True):
        subprocess.run(("umount", "--lazy", mount), check=True)
    for name in ("graph", "run"):
        shutil.rmtree(tiny.folder / name)
    look_at(tiny, digest, built=set())


def test_images_removed_during_builds_are_complete_after_the_next(stepped: tuple[Tiny, str]) -> None:
    """buildah and podman may fail, and so may a build, with a clear error; the next one succeeds."""
    tiny, digest = stepped
    removing = ("podman", "rmi", "--all", "--force")
    for number in range(3):
        tiny.tool(*removing)
        with tiny.start("tools") as child:
            wait_until(lambda: bool(list(tiny.cache.glob("tmp/dir-*"))) or child.poll() is not None)
            while child.poll() is None:
                subprocess.run(
                    ("podman", "rmi", "--all", "--force"), env=tiny.env, cwd=tiny.folder, capture_output=True
                )
                time.sleep(0.05 * number)
            output = child.communicate()[0]
        assert child.returncode in (0, 1), output
        assert "Traceback" not in output
        assert child.returncode == 0 or "\nerror: " in output
    tiny.tool(*removing)
    look_at(tiny, digest, built=set())


def test_build_after_the_clock_is_set_back_a_day_reuses_every_layer(tiny: Tiny) -> None:
    """Everything written before has a time in the future."""
    tiny.build("app")
    (tiny.cache / "tmp/dir-left").mkdir()
    (tiny.cache / "tmp/1-left").write_bytes(b"left")
    part = next(tiny.cache.glob("files/*")) / ".x.whl.left.part"
    part.write_bytes(b"left")
    with closing(sqlite3.connect(tiny.cache / "ledger.sqlite")) as db, db:
        for table in ("layers", "wheels"):
            db.execute(f"UPDATE {table} SET built = built + {_DAY}, used = used + {_DAY}")
        db.execute(f"UPDATE downloads SET fetched = fetched + {_DAY}, used = used + {_DAY}")
        db.execute(f"UPDATE builds SET started = started + {_DAY}")
        db.execute(f"UPDATE files SET hashed_ns = hashed_ns + {_DAY * 10**9}")
    update_checksums(tiny.cache / "ledger.sqlite")
    later = time.time() + _DAY
    for path in (*tiny.cache.rglob("*"), *(tiny.project / "stages").rglob("*"), *(tiny.project / "models").rglob("*")):
        os.utime(path, (later, later))
    assert tiny.build("app").built() == {}
    tiny.write("stages/app/app/words.txt", "some wards\n")  # as long as before
    (tiny.project / "models/greeter/weights.txt").write_text("new weights")
    assert tiny.build("app", "--changed-models").built().keys() == {"app/app", "models/greeter"}
    assert tiny.run_image("app", "cat", "/app/words.txt") == "some wards\n"
    assert left_behind(tiny) == []
    assert unsound(tiny) == []
    with closing(sqlite3.connect(tiny.cache / "ledger.sqlite")) as db:
        (used,) = db.execute("SELECT MAX(used) FROM layers").fetchone()
    assert used < time.time() + 1, "a new time of use is not in the future"
