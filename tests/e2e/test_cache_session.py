"""``nox -s cache`` on a real project: listing, clearing away, verifying; builds and storage go on working."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.survival import damage
from tests.e2e.tinyproject import Tiny
from tests.waiting import wait_until

pytestmark = [pytest.mark.tools, pytest.mark.usefixtures("imports")]

_NOBODY = 4_194_305  # more than a process number can be


def ask(tiny: Tiny, *arguments: str, code: int = 0) -> Any:
    """The JSON that a request answers; nothing else may be on standard output."""
    done = subprocess.run(
        tiny.argv("cache", *arguments, "--json"), cwd=tiny.folder, env=tiny.env, capture_output=True, text=True
    )
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def names(answer: dict[str, Any]) -> list[str]:
    return sorted(one["name"] for one in answer["dropped"])


def files(tiny: Tiny) -> dict[str, bytes]:
    """Return the files of the cache, without those of an open SQLite database."""
    found = (path for path in tiny.cache.rglob("*") if path.is_file() and not path.name.endswith(("-wal", "-shm")))
    return {path.relative_to(tiny.cache).as_posix(): path.read_bytes() for path in found}


@contextmanager
def building(tiny: Tiny) -> Iterator[None]:
    """Hold the cache as a build does."""
    with (tiny.cache / "locks/in-use").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield


def test_ls_and_du_agree_with_the_disk(tiny: Tiny) -> None:
    report = tiny.build("app").report
    assert report is not None
    listed = {one["name"]: one for one in ask(tiny, "ls")["things"]}
    for layer in report["layers"]:
        one = listed[layer["name"]]
        assert (one["key"], one["kind"], one["size"]) == (layer["key"], layer["kind"], layer["size"])
        assert "app" in one["needed_by"]
        assert (one["state"], one["times"]) == ("present", 1)
    downloads = {name for name, one in listed.items() if one["kind"] == "download"}
    assert downloads == {path.name for path in tiny.cache.glob("files/*/*")}
    assert listed["bulk-1.0-py3-none-any.whl"]["needed_by"] == ["app", "deps", "tools"]
    assert len(listed) == len(report["layers"]) + len(downloads)
    sums = ask(tiny, "du")
    linked = [path for path in tiny.cache.glob("files/*/*") if path.is_symlink()]
    assert len(linked) == len(downloads)
    elsewhere = sum(path.stat().st_size - path.lstat().st_size for path in linked)
    assert sums["size"] == sum(map(len, files(tiny).values())) - elsewhere
    assert sums["stages"]["app"]["size"] == sum(layer["size"] for layer in report["layers"])
    assert sums["stages"]["tools"]["missing"] == 2
    assert sums["not_needed"] == sums["orphans"] == sums["temporaries"] == 0
    (why,) = ask(tiny, "why", report["layers"][0]["diff_id"])
    assert why["name"] == "base/image"
    assert [part["why"] for part in why["builds"]] == ["first build"]


def test_gc_after_a_change_evicts_only_the_old_layer(tiny: Tiny) -> None:
    tiny.build("app")
    old = tiny.images()["localhost/tiny/app:latest"]
    script = (tiny.project / "stages/app/app/main.sh").read_text()
    tiny.write("stages/app/app/main.sh", 'echo "$GREETING again"\n')
    tiny.build("app")
    ask(tiny, "ls")  # hashes that were taken too soon after a change are taken again, and kept
    before, images = files(tiny), tiny.images()
    dry = ask(tiny, "gc", "--keep-days", "0", "--dry-run")
    assert (files(tiny), tiny.images()) == (before, images)
    answer = ask(tiny, "gc", "--keep-days", "0")
    assert answer == dry | {"dry_run": False}
    assert names(answer) == ["app/app"]
    assert [f"sha256:{image['id']}" for image in answer["images"]] == [old]
    blobs = {path for path in before if path.startswith(("sha256/", "files/"))}
    gone = blobs - files(tiny).keys()
    assert len(gone) == 1
    assert answer["freed"] == sum(len(before[path]) for path in gone)
    assert tiny.images() == {name: image for name, image in images.items() if image != old}
    assert ask(tiny, "verify")["flaws"] == []
    assert tiny.build("app").built() == {}
    assert tiny.run_image("app") == "hello again\n"
    tiny.write("stages/app/app/main.sh", script)
    back = tiny.build("app").built()
    assert list(back) == ["app/app"]
    assert "evicted by gc on 20" in back["app/app"]
    assert tiny.run_image("app") == "hello from /app\n"
    assert tiny.left_over() == []


def test_gc_removes_only_base_images_from_storage(tiny: Tiny) -> None:
    tiny.build("tools")
    tiny.write("stages/tools/files/recipe.txt", "of another recipe\n")
    used = tiny.images()["localhost/tiny/tools:latest"].removeprefix("sha256:")
    tiny.tool("podman", "create", "--name=web", used)  # an earlier image that somebody runs
    tiny.build("tools")
    tiny.tool("buildah", "from", "--name=mine", "scratch")
    tiny.tool("buildah", "commit", "--quiet", "mine")  # without a name, and not ours
    tiny.tool("buildah", "commit", "--quiet", "mine", "localhost/tiny/base:root-of-mine")
    base = next(name for name in tiny.images() if re.fullmatch("localhost/tiny/base:root-[0-9a-f]{12}", name))
    dead, alive = (f"buildkit-{number}-0123456789ab" for number in (_NOBODY, os.getpid()))
    for box in (dead, alive):
        tiny.tool("buildah", "from", "--quiet", "--pull=never", "--name", box, base)
    noted = f"buildkit-{os.getpid()}-abcdefabcdef"  # its note is of a process that is no more
    tiny.tool("buildah", "from", "--quiet", "--pull=never", "--name", noted, base)
    (tiny.cache / "boxes").mkdir(exist_ok=True)
    (tiny.cache / "boxes" / noted).touch()

    before = stored(tiny)
    roots = {name for name in before.values() if ":root-" in name}
    answer = ask(tiny, "gc", "--keep-days", "0")
    assert sorted(answer["containers"]) == sorted([dead, noted])
    assert sorted(tiny.containers()) == sorted([_id(tiny, alive), _id(tiny, "mine")])
    left = stored(tiny)
    assert used in left, "a container uses it"
    assert {name for name in left.values() if ":latest" in name} == {"localhost/tiny/tools:latest"}
    assert "localhost/tiny/base:root-of-mine" in left.values()
    kept = {name for name in left.values() if ":root-" in name} - {"localhost/tiny/base:root-of-mine"}
    assert base in kept
    assert len(kept) == 2, "one below each of the two steps"
    assert kept < roots
    nameless = [image for image, name in left.items() if name == "<none>:<none>"]
    assert len(nameless) == 2, "the one that a container uses, and the one that is not ours"
    assert tiny.run_image("tools", "cat", "/opt/tools/copy") == "of another recipe\nsweet\n"
    tiny.write("stages/tools/files/recipe.txt", "of a third recipe\n")
    tiny.build("tools")
    assert tiny.run_image("tools", "cat", "/opt/tools/copy") == "of a third recipe\nsweet\n"


def stored(tiny: Tiny) -> dict[str, str]:
    """Ids of all images, and the name of each."""
    lines = tiny.tool("buildah", "images", "--all", "--no-trunc", "--format", "{{.ID}} {{.Name}}:{{.Tag}}").splitlines()
    return {image.removeprefix("sha256:"): name for image, name in (line.split() for line in lines)}


def _id(tiny: Tiny, box: str) -> str:
    return tiny.tool("buildah", "inspect", "--type=container", "--format", "{{.ContainerID}}", box).strip()


def test_gc_waits_for_builds_and_for_another_gc(tiny: Tiny) -> None:
    tiny.build("app", "--no-import")
    tiny.write("stages/app/app/main.sh", "echo new\n")
    tiny.build("app", "--no-import")
    before = tiny.blobs()
    with building(tiny):
        both = [start(tiny, "gc", "--keep-days", "0", "--json") for _ in range(2)]
        for child in both:
            assert child.stderr is not None
            wait_until(lambda child=child: "waiting until all builds" in child.stderr.readline())
        assert [child.poll() for child in both] == [None, None]
        assert tiny.blobs() == before
        assert ask(tiny, "ls")["things"], "who only asks does not wait"
    dropped = [names(json.loads(child.communicate(timeout=60)[0])) for child in both]
    assert [child.returncode for child in both] == [0, 0]
    assert sorted(dropped) == [[], ["app/app"]]
    assert len(tiny.blobs()) == len(before) - 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_waiting_gc_can_be_interrupted(tiny: Tiny, number: signal.Signals) -> None:
    tiny.build("models", "--no-import")
    with building(tiny):
        child = start(tiny, "gc")
        assert child.stderr is not None
        wait_until(lambda: "waiting until all builds" in child.stderr.readline())
        os.killpg(child.pid, number) if number is signal.SIGINT else child.send_signal(number)
        _, output = child.communicate(timeout=60)
    assert child.returncode == 130, output
    assert "Traceback" not in output


def start(tiny: Tiny, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        tiny.argv("cache", *arguments),
        cwd=tiny.folder,
        env=tiny.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_next_build_repairs_what_verify_deleted(tiny: Tiny) -> None:
    report = tiny.build("app", "--no-import").report
    assert report is not None
    paths = {layer["name"]: tiny.cache / layer["digest"].replace(":", "/") for layer in report["layers"]}
    flip(paths["deps/bulk"])
    paths["models/greeter"].write_bytes(paths["models/greeter"].read_bytes()[:-1])
    paths["app/app"].unlink()
    (wheel,) = tiny.cache.glob("files/*/alpha-*")
    damage(wheel, "flipped")
    orphan = tiny.cache / f"sha256/{'0' * 64}"
    orphan.write_bytes(b"")
    found = {flaw["name"]: flaw["what"] for flaw in ask(tiny, "verify", code=1)["flaws"]}
    assert found == {
        "deps/bulk": "its bytes are others",
        "models/greeter": "its bytes are others",
        "app/app": "it is not in the cache",
        wheel.name: "its bytes are others",
        f"sha256/{'0' * 64}": "its bytes are others",
    }
    assert not orphan.exists()
    built = tiny.build("app").built()
    assert built.keys() == {"deps/bulk", "models/greeter", "app/app"}
    assert re.fullmatch("its blob was damaged and removed on [-0-9]+: found by verify", built["deps/bulk"])
    assert re.fullmatch("its blob was damaged and removed on [-0-9]+: found by verify", built["models/greeter"])
    assert built["app/app"] == "its blob is missing from the cache"
    assert tiny.run_image("app") == "hello from /app\n"
    assert ask(tiny, "verify")["ok"]
    assert tiny.left_over() == []


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def test_gc_refuses_an_invalid_definition(tiny: Tiny) -> None:
    tiny.build("models", "--no-import")
    tiny.write("requirements/app.in", "alpha==1.1\n")
    before = files(tiny)
    ended = tiny.run("cache", "gc", "--keep-days", "0")
    assert ended.code == 2
    assert "requirements/app.txt" in ended.errors[0]
    assert {path: data for path, data in files(tiny).items() if "ledger" not in path} == {
        path: data for path, data in before.items() if "ledger" not in path
    }
    assert "what the stages need is unknown" in tiny.run("cache", "ls").text
