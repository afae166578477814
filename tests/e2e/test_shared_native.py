"""Compilers come from the remote cache, too: the root of the bytecode compiler, and the builder."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

from buildkit.digest import Key
from buildkit.remote.stage_index import decode_stage_index, stage_index_tag
from tests.e2e.conftest import short_folder
from tests.e2e.machines import digest, downloaded, pull, sources, succeeded, traffic, trust, warnings
from tests.e2e.nativeproject import NATIVE, write_sdist
from tests.e2e.tinyproject import SessionResult, Tiny
from tests.faultyproxy import Fault, FaultyProxy
from tests.registry import serve_registry

pytestmark = [pytest.mark.tools, pytest.mark.network]

_IMPORT = "import fast, source_only as s, source_native as n; print(fast.add(40, 2), s.WORD, n.add(1, 1))"
_NOWHERE = {"http_proxy": "http://127.0.0.1:1", "https_proxy": "http://127.0.0.1:1"}


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyProxy]:
    with serve_registry(tmp_path_factory.mktemp("registry")) as host, FaultyProxy(host) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def repo(proxy: FaultyProxy) -> str:
    return f"{proxy.host}/native/app"


@pytest.fixture(scope="module")
def first(proxy: FaultyProxy, repo: str) -> Iterator[tuple[Tiny, SessionResult]]:
    """A machine that builds root, builder and wheels, and writes them to the remote cache."""
    folder = short_folder()
    links = folder / "links"
    tiny = Tiny(folder, links=links)
    links.mkdir()
    argv = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(links), "pip", "setuptools")
    subprocess.run((*argv, "--only-binary=:all:", "--python-version=3.13"), check=True)
    write_sdist(links)
    tiny.adopt(NATIVE)
    tiny.replace("stages/app/stage.toml", "[config]", '[[copy]]\nsource = "app"\ntarget = "/app"\n\n[config]')
    tiny.write("stages/app/app/main.py", "print('one')\n")
    tiny.lock()
    tiny.git("init", "--quiet")
    tiny.git("add", ".")
    tiny.git("commit", "--quiet", "--message=All of it")
    trust(tiny, proxy.host)
    yield tiny, succeeded(tiny.run("push-app", f"{repo}:one", "--cache-write", repo))
    tiny.remove()


@pytest.fixture
def runner(first: tuple[Tiny, SessionResult], proxy: FaultyProxy) -> Iterator[Tiny]:
    """A fresh machine that reaches neither Debian nor an index, and has sdists but no build tools."""
    folder = short_folder()
    links = folder / "links"
    shutil.copytree(first[0].folder / "links", links)
    for path in (*links.glob("pip-*"), *links.glob("setuptools-*")):
        path.unlink()
    tiny = Tiny(folder, links=links)
    tiny.adopt(first[0].project)
    tiny.env |= _NOWHERE
    trust(tiny, proxy.host)
    proxy.clear()
    yield tiny
    assert tiny.left_over() == []
    tiny.remove()


def python(tiny: Tiny, ref: str, *argv: str) -> str:
    return pull(tiny, ref, "/opt/venv/bin/python", "-I", *argv)


def test_stage_index_lists_layers_of_image_and_builder(first: tuple[Tiny, SessionResult], repo: str) -> None:
    tiny, ended = first
    assert warnings(ended) == []
    text = tiny.tool("skopeo", "inspect", "--raw", f"docker://{repo}:{stage_index_tag('app')}")
    records = decode_stage_index(text.encode()).records
    names = [record.name for record in records.values()]
    assert names[: len(ended.report["layers"])] == [layer["name"] for layer in ended.report["layers"]]
    assert [name for name in names if name.startswith("builder/")]
    assert {Key.parse(layer["key"]) for layer in ended.report["layers"]} <= set(
        decode_stage_index(text.encode()).records
    )


def test_build_without_compilation_fetches_no_compiler_or_builder(runner: Tiny, proxy: FaultyProxy, repo: str) -> None:
    runner.write("stages/app/app/main.py", "print('two')\n")
    both = ("--cache", repo, "--cache-write", repo)
    ended = succeeded(runner.run("push-app", f"{repo}:two", *both))
    assert list(ended.built()) == ["app/app"]
    assert downloaded(proxy) == 0
    assert runner.images() == {}
    assert traffic(proxy.requests)["GET manifest"] == 2  # the stage index, the record of the new layer
    assert traffic(proxy.requests)["HEAD manifest"] == 1  # the tag
    index = runner.tool("skopeo", "inspect", "--raw", f"docker://{repo}:{stage_index_tag('app')}")
    names = [entry.name for entry in decode_stage_index(index.encode()).records.values()]
    assert [name for name in names if name.startswith("builder/")]  # which this machine never had
    assert python(runner, f"{repo}:two", "/app/main.py") == "two\n"


def test_changed_source_is_compiled_in_a_builder_from_the_remote_cache(
    runner: Tiny, proxy: FaultyProxy, repo: str, first: tuple[Tiny, SessionResult]
) -> None:
    runner.replace("libs/fast/src/fast.c", "one + other", "one * other")
    ended = succeeded(runner.run("push-app", f"{repo}:three", "--cache", repo))
    assert set(ended.built().values()) == {"first build"}  # of this machine
    assert all(sources(ended)[name] == "shared" for name in sources(ended) if name not in ended.built())
    assert not re.search(r"^ +root ", ended.text, re.MULTILINE)
    assert re.search(r"^ +pull +base/root", ended.text, re.MULTILINE)
    assert re.search(r"^ +pull +builder/", ended.text, re.MULTILINE)
    assert re.search(r"^ +compile +fast 1.0", ended.text, re.MULTILINE)
    assert re.search(r"^ +start +bytecode compiler", ended.text, re.MULTILINE)
    assert proxy.count("GET", "/manifests/cache-of-app") == 2, "its layers, and later what their native files need"
    assert warnings(ended) == []
    assert python(runner, f"{repo}:three", "-c", _IMPORT) == "80 sdist 2\n"
    # the machine that built everything gets the same digest
    tiny, before = first
    tiny.replace("libs/fast/src/fast.c", "one + other", "one * other")
    assert digest(succeeded(tiny.run("push-app", f"{repo}:four"))) == digest(ended) != digest(before)
    tiny.git("checkout", "--quiet", ".")


def test_builder_lost_by_the_registry_is_rebuilt_locally_if_possible(
    first: tuple[Tiny, SessionResult], runner: Tiny, proxy: FaultyProxy, repo: str
) -> None:
    index = runner.tool("skopeo", "inspect", "--raw", f"docker://{repo}:{stage_index_tag('app')}")
    records = decode_stage_index(index.encode()).records
    lost = [entry for entry in records.values() if entry.name.startswith("builder/")]
    assert lost
    for entry in lost:
        proxy.fault("GET", f"/manifests/cache-{entry.key.hex}", Fault(status=404, body=b""))
    shutil.rmtree(runner.folder / "links")
    shutil.copytree(first[0].folder / "links", runner.folder / "links")
    runner.replace("libs/fast/src/fast.c", "one + other", "one - other")
    ended = succeeded(runner.run("push-app", f"{repo}:five", "--cache", repo))
    assert len(warnings(ended)) == 1
    assert python(runner, f"{repo}:five", "-c", _IMPORT) == "38 sdist 2\n"
