"""Images for two processors, made on one machine: what they share, how they are pushed, verified and kept."""

from __future__ import annotations

import json
import random
import re
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from buildkit.tools.emulation import can_emulate
from tests.e2e.aptarchive import serve_archive
from tests.e2e.conftest import add_wheel, short_folder
from tests.e2e.machines import read_manifest, sources, succeeded
from tests.e2e.tinyproject import Tiny, one_error

pytestmark = pytest.mark.tools

_FILES = {
    "noxfile.py": "from buildkit.sessions import register\n\nregister()\n",
    "pyproject.toml": (
        '[project]\nname = "tiny"\n[tool.buildkit]\narch = ["x86_64", "aarch64"]\nbytecode = false\nheavy = 1000\n'
    ),
    "requirements/base.apt": "hello\n",
    "requirements/app.in": "pure\nnative\n",
    "stages/base/stage.toml": 'summary = "x"\n[root]\nsuite = "trixie"\nvariant = "extract"\n'
    'packages = "requirements/base.apt"\n',
    "stages/app/stage.toml": 'summary = "x"\nfrom = "base"\nships = true\n[wheels]\nlocks = ["requirements/app.txt"]\n'
    '[[copy]]\nsource = "./src"\ntarget = "/app"\n',
    "stages/app/src/main.py": "print(1)\n",
    "stages/step/stage.toml": 'summary = "x"\nfrom = "base"\n[[run]]\nname = "try"\ncommand = ["/bin/true"]\n',
}
_PRETEND = "import platform\nplatform.machine = lambda: 'aarch64'\n"


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheels")
    add_wheel(folder, "pure", "1.0", {"pure/data.bin": random.Random(1).randbytes(5000)})
    for arch in ("x86_64", "aarch64"):
        made = add_wheel(folder, "native", "1.0", {f"native/{arch}.bin": random.Random(arch).randbytes(5000)})
        made.rename(folder / f"native-1.0-cp313-cp313-manylinux_2_28_{arch}.whl")
    return folder


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory, registry: str, wheels: Path) -> Iterator[tuple[Tiny, Tiny]]:
    """Two machines with one project, each with a cache and a storage of its own."""
    made = [Tiny(short_folder(), registry=registry, links=wheels) for _ in range(2)]
    with serve_archive(tmp_path_factory.mktemp("archive") / "a") as archive:
        archive.publish({"hello": "1.0"})
        for tiny in made:
            archive.put_first(tiny.folder / "bin", tiny.env)
        for path, text in _FILES.items():
            made[0].write(path, text)
        made[0].lock()
        made[1].adopt(made[0].project)
        yield made[0], made[1]
    for tiny in made:
        assert tiny.left_over() == []
        tiny.remove()


@pytest.fixture
def tiny(machines: tuple[Tiny, Tiny]) -> Tiny:
    return machines[0]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    new = ("openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", folder / "one")
    subprocess.run(new, check=True, capture_output=True)
    subprocess.run(("openssl", "pkey", "-in", folder / "one", "-pubout", "-out", folder / "one.pub"), check=True)
    return folder


def put_index(repository: str, tag: str, index: dict[str, Any]) -> None:
    host, _, path = repository.partition("/")
    data = json.dumps(index, separators=(",", ":")).encode()
    headers = {"Content-Type": index["mediaType"]}
    request = urllib.request.Request(f"http://{host}/v2/{path}/manifests/{tag}", data, headers, method="PUT")
    urllib.request.urlopen(request).close()


def verdict(tiny: Tiny, *arguments: str) -> dict[str, Any]:
    ended = tiny.run("verify-image", "app", *arguments, "--json")
    assert "{" in ended.text, ended.text
    found: dict[str, Any] = json.JSONDecoder().raw_decode(ended.text[ended.text.index("{") :])[0]
    assert ended.code == (0 if found["holds"] else 1), ended.text
    return found


def test_second_processor_costs_what_depends_on_it_and_leaves_the_hosts_image_alone(tiny: Tiny) -> None:
    host = tiny.build("app")
    before = tiny.images()["localhost/tiny/app:latest"]
    other = tiny.build("app", "--arch", "arm64")
    assert sorted(other.built()) == ["app/native", "base/root"]
    assert other.report is not None
    assert (other.report["image"], other.report["arch"]) == ("localhost/tiny/app:latest-aarch64", "aarch64")
    images = tiny.images()
    assert images["localhost/tiny/app:latest"] == before != images["localhost/tiny/app:latest-aarch64"]
    same = {name for name, diff_id in other.digests().items() if host.digests()[name] == diff_id}
    assert same == {"/opt/venv", "app/pure", "app/src"}
    config = json.loads(tiny.tool("podman", "image", "inspect", "localhost/tiny/app:latest-aarch64"))[0]
    assert (config["Architecture"], config["Os"]) == ("arm64", "linux")
    again = tiny.build("app", "--arch", "all")
    assert "run it" not in again.text
    assert tiny.images() == images
    assert "app: nothing to build" in succeeded(tiny.run("plan", "app", "--arch", "aarch64")).text


def test_another_machine_makes_the_same_bytes_whatever_its_processor(
    machines: tuple[Tiny, Tiny], registry: str
) -> None:
    tiny, other = machines
    ours = {arch: tiny.build("app", "--arch", arch).report for arch in ("x86_64", "aarch64")}
    with other.after(_PRETEND):
        theirs = {arch: other.build("app", "--arch", arch).report for arch in ("aarch64", "x86_64")}
    for arch in ours:
        assert ours[arch] is not None
        assert theirs[arch] is not None
        assert ours[arch]["digest"] == theirs[arch]["digest"]
    assert theirs["aarch64"] is not None
    assert theirs["aarch64"]["image"] == "localhost/tiny/app:latest"  # that machine runs it by itself
    assert other.images().keys() >= {"localhost/tiny/app:latest-x86_64"}


def test_push_writes_an_index_that_every_client_can_choose_from_and_that_verifies(
    tiny: Tiny, registry: str, keys: Path
) -> None:
    ref, public = f"{registry}/duo/app:1", str(keys / "one.pub")
    pushed = succeeded(
        tiny.run("push-app", ref, "--tag", "2", "--attest", "--sign-by", str(keys / "one"), "--sign-tags")
    )
    index = read_manifest(tiny, ref)
    assert read_manifest(tiny, f"{registry}/duo/app:2") == index
    assert [entry["platform"] for entry in index["manifests"]] == [
        {"architecture": "amd64", "os": "linux"}, {"architecture": "arm64", "os": "linux"},
    ]  # fmt: skip
    assert f"pushed {ref}@sha256:" in pushed.text
    assert not re.search("@sha256:[0-9a-f]+@", pushed.text)
    chosen = json.loads(tiny.tool("skopeo", "--override-arch", "arm64", "inspect", f"docker://{ref}"))
    assert chosen["Architecture"] == "arm64"
    found = verdict(tiny, ref, "--key", public, "--attested", "--signed-tag")
    assert found["holds"]
    assert [(one["arch"], one["holds"]) for one in found["images"]] == [("x86_64", True), ("aarch64", True)]
    kinds = [[proof["state"] for proof in one["attached"]] for one in found["images"]]
    assert kinds == [["good"] * 3] * 2  # signature, SBOM and provenance of each image
    again = succeeded(tiny.run("push-app", ref, "--tag", "2"))
    assert "nothing pushed" in again.text
    assert read_manifest(tiny, ref) == index
    only = succeeded(tiny.run("push-app", f"{registry}/duo/app:arm", "--arch", "linux/arm64"))
    assert only.report is not None
    assert read_manifest(tiny, f"{registry}/duo/app:arm")["config"]
    assert verdict(tiny, f"{registry}/duo/app:arm", "--arch", "aarch64")["holds"]


def test_index_that_a_push_does_not_write_is_refused(tiny: Tiny, registry: str, keys: Path) -> None:
    repository = f"{registry}/duo/altered"
    succeeded(tiny.run("push-app", f"{repository}:1"))
    index = read_manifest(tiny, f"{repository}:1")
    first, second = index["manifests"]
    swapped = [{**first, "digest": second["digest"], "size": second["size"]}, second]
    put_index(repository, "swapped", {**index, "manifests": swapped})
    found = verdict(tiny, f"{repository}:swapped")
    assert [one["holds"] for one in found["images"]] == [False, True]
    put_index(repository, "twice", {**index, "manifests": [first, first]})
    ended = tiny.run("verify-image", "app", f"{repository}:twice")
    assert "two images for one processor" in one_error(ended, 1)
    assert not verdict(tiny, f"{repository}:1", "--key", str(keys / "one.pub"))["holds"]  # it is not signed


def test_shared_cache_keeps_processors_apart_and_shares_what_is_the_same(
    machines: tuple[Tiny, Tiny], registry: str
) -> None:
    tiny, other = machines
    cache = f"{registry}/duo/cache"
    succeeded(tiny.run("build-app", "--arch", "all", "--no-import", "--cache-write", cache))
    other.run("cache", "gc", "--keep-days", "0")
    for path in other.cache.glob("sha256/*"):
        path.unlink()
    for arch in ("x86_64", "aarch64"):
        built = other.build("app", "--arch", arch, "--no-import", "--cache", cache)
        assert "built" not in sources(built).values()
    tags = json.loads(tiny.tool("skopeo", "list-tags", f"docker://{cache}"))["Tags"]
    assert {"cache-of-app", "cache-of-app__aarch64"} <= set(tags)
    assert len([tag for tag in tags if not tag.startswith("cache-of")]) == 7  # five of one image, two of the other


def test_garbage_collection_needs_the_layers_of_both(tiny: Tiny) -> None:
    tiny.build("app", "--arch", "all", "--no-import")
    before = tiny.rows("layers")
    ended = succeeded(tiny.run("cache", "gc", "--keep-days", "0"))
    assert tiny.rows("layers") == before, ended.text


@pytest.mark.skipif(can_emulate("aarch64"), reason="this machine runs programs for aarch64")
def test_step_for_another_processor_is_refused_before_anything_is_done(tiny: Tiny) -> None:
    message = tiny.refuse("step", "--arch", "aarch64", code=1)
    assert "this machine is x86_64, and these layers run programs for aarch64: step/try (a step)" in message
    assert "qemu-user-static" in message
    assert "--cache-write" in message


def test_processor_without_locks_is_refused_with_the_way_out(tiny: Tiny) -> None:
    lock = tiny.project / "requirements/base.aarch64.apt.lock"
    text = lock.read_text()
    lock.unlink()
    try:
        message = tiny.refuse("app", "--arch", "aarch64", code=2)
    finally:
        lock.write_text(text)
    assert "requirements/base.aarch64.apt.lock: the lock is missing" in message
    assert "nox -s lock" in message
