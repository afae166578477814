"""A remote cache in a real registry: the bytes that move, and every way in which the cache can fail."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from buildkit.digest import Key
from buildkit.remote.cache_manifest import EMPTY
from buildkit.remote.cache_record import CacheRecord, record_tag
from buildkit.remote.stage_index import decode_stage_index, encode_stage_index, stage_index_tag
from tests.e2e.conftest import add_wheel, new_tiny
from tests.e2e.machines import (
    cut_off,
    digest,
    downloaded,
    forget,
    interrupt_when,
    pull,
    put_entry,
    read_manifest,
    sources,
    succeeded,
    traffic,
    trust,
    uploaded,
    warnings,
)
from tests.e2e.tinyproject import SessionResult, Tiny, one_error
from tests.faultyproxy import Fault, FaultyProxy
from tests.registry import serve_registry

pytestmark = pytest.mark.tools

NAME = "some/cache"
LAYERS = [
    "base/image", "/opt/venv", "deps/bulk", "deps/bin-0", "deps/bin-1", "deps/bin-2", "models/greeter",
    "models/speller", "models/voice", "app/app",
]  # fmt: skip


@dataclass(frozen=True)
class Warm:
    """A project, its first build, and the content of a registry after it."""

    project: Path
    links: Path
    registry: str
    data: Path
    first: SessionResult

    def machine(self) -> Tiny:
        return new_tiny(self.project, self.registry, self.links)

    def key(self, name: str) -> Key:
        (found,) = (layer["key"] for layer in self.first.report["layers"] if layer["name"] == name)
        return Key.parse(found)

    def blob(self, name: str) -> str:
        (found,) = (layer["digest"] for layer in self.first.report["layers"] if layer["name"] == name)
        return str(found.removeprefix("sha256:"))


@dataclass(frozen=True)
class Place:
    """A registry with the remote cache, behind a proxy."""

    proxy: FaultyProxy
    data: Path

    @property
    def repo(self) -> str:
        return f"{self.proxy.host}/{NAME}"

    def blob(self, hexes: str) -> Path:
        return self.data / f"docker/registry/v2/blobs/sha256/{hexes[:2]}/{hexes}/data"


@pytest.fixture(scope="module")
def warm(template: Path, registry: str, links: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    """The tiny project, with a model in a wheel, built and written to the remote cache by one machine."""
    more = tmp_path_factory.mktemp("more") / "links"
    shutil.copytree(links, more)
    add_wheel(more, "voices", "1.0", {"voices/voice.txt": b"weights of the voice"})
    data = tmp_path_factory.mktemp("shared")
    tiny = new_tiny(template, registry, more)
    try:
        asked = tiny.project / "requirements/models.toml"
        tiny.write(
            "requirements/models.toml",
            f'{asked.read_text()}\n[[model]]\nname = "voice"\nsource = "pypi:voices"\n'
            'files = ["voices/*.txt"]\nlicense = "MIT"\n',
        )
        tiny.lock()
        tiny.git("commit", "--quiet", "--all", "--message=A model that is distributed as a wheel")
        with serve_registry(data) as host:
            trust(tiny, registry, host)
            first = succeeded(tiny.run("push-app", f"{host}/{NAME}:first", "--cache-write", f"{host}/{NAME}"))
        assert list(first.built()) == LAYERS
        assert warnings(first) == []
        yield Warm(tiny.project, more, registry, data / "data", first)
    finally:
        tiny.remove()


@pytest.fixture
def place(warm: Warm, tmp_path: Path) -> Iterator[Place]:
    """A registry for one test, with the remote cache."""
    folder = tmp_path / "registry"
    shutil.copytree(warm.data, folder / "data")
    with serve_registry(folder) as host, FaultyProxy(host) as proxy:
        yield Place(proxy, folder / "data")


@pytest.fixture(scope="module")
def runners(warm: Warm) -> Iterator[list[Tiny]]:
    """Machines that are used again, for they import nothing."""
    made: list[Tiny] = []
    yield made
    for tiny in made:
        tiny.remove()


@pytest.fixture
def runner(warm: Warm, runners: list[Tiny], place: Place) -> Iterator[Tiny]:
    """A fresh runner: no cache, nothing in storage; wheels and the root are to be had."""
    tiny = runners.pop() if runners else warm.machine()
    tiny.git("reset", "--quiet", "--hard")
    tiny.git("clean", "--quiet", "-fd")
    shutil.rmtree(tiny.folder / "links", ignore_errors=True)
    shutil.copytree(warm.links, tiny.folder / "links")
    trust(tiny, warm.registry, place.proxy.host)
    forget(tiny)
    yield tiny
    assert tiny.left_over() == []
    if tiny.images():
        tiny.remove()
    else:
        runners.append(tiny)


@pytest.fixture
def machines(warm: Warm) -> Iterator[Callable[[], Tiny]]:
    """Create machines, each with its own storage."""
    made: list[Tiny] = []

    def make() -> Tiny:
        made.append(warm.machine())
        return made[-1]

    yield make
    for tiny in made:
        tiny.remove()


def push(tiny: Tiny, place: Place, *arguments: str, tag: str = "next") -> SessionResult:
    """Push, reading and writing the remote cache."""
    both = ("--cache", place.repo, "--cache-write", place.repo)
    return succeeded(tiny.run("push-app", f"{place.repo}:{tag}", *both, *arguments))


def edit(tiny: Tiny) -> None:
    """Change one line of the application."""
    tiny.write("stages/app/app/main.sh", 'echo "$GREETING again"\n')


# what moves


def test_fresh_runner_uploads_only_a_changed_application_line(runner: Tiny, place: Place, warm: Warm) -> None:
    cut_off(runner, place.proxy)  # no wheel, no model, no root is to be had but from the cache
    edit(runner)
    ended = push(runner, place)
    assert list(ended.built()) == ["app/app"]
    assert sources(ended) == dict.fromkeys(LAYERS, "shared") | {"app/app": "built"}
    assert re.search(rf" ask +{place.repo} .* {len(LAYERS) - 1} of {len(LAYERS)} layers$", ended.text, re.MULTILINE)
    requests = place.proxy.requests[:]
    assert downloaded(place.proxy) == 0
    assert ended.report["bytes"]["fetched"] == 0
    assert "scan" not in ended.report["phases"], "the builder of the models' layers has scanned them"
    assert runner.blobs() == [ended.report["layers"][-1]["digest"].removeprefix("sha256:")]
    assert list(runner.cache.glob("files/*/*")) == []
    # three questions (the index, the new layer's key, the tag); layer, listing and config go up; entry, index, image
    assert traffic(requests) == {
        "GET manifest": 2,
        "HEAD manifest": 1,
        "HEAD blob": 3 + 1 + len(LAYERS) + 1,
        "POST upload": 3,
        "PUT upload": 3,
        "PUT manifest": 3,
    }
    there = read_manifest(runner, f"{place.repo}:next")
    config, layer = there["config"]["size"], there["layers"][-1]["size"]
    listing = read_manifest(runner, f"{place.repo}:{record_tag(Key.parse(ended.report['layers'][-1]['key']))}")[
        "config"
    ]["size"]
    manifests = sum(one.up for one in requests if one.method == "PUT" and "/manifests/" in one.path)
    assert sum(one.up for one in requests) == layer + listing + config + manifests
    assert ended.report["bytes"]["pushed"] == layer + layer_less(there, place, runner)
    assert manifests < 6000
    assert warnings(ended) == []
    # a machine that has nothing runs it
    place.proxy.clear()
    again = push(runner, place)
    assert traffic(place.proxy.requests) == {"GET manifest": 1, "HEAD manifest": 1}
    assert again.report["bytes"]["pushed"] == 0


def layer_less(there: dict[str, object], place: Place, tiny: Tiny) -> int:
    """Bytes of an image's config and manifest."""
    body = tiny.tool("skopeo", "inspect", "--raw", f"docker://{place.repo}:next")
    config: dict[str, int] = there["config"]  # type: ignore[assignment]
    return len(body.encode()) + config["size"]


def test_image_pushed_by_a_fresh_runner_runs(
    runner: Tiny, place: Place, machines: Callable[[], Tiny], warm: Warm
) -> None:
    edit(runner)
    ended = push(runner, place)
    local = machines()
    trust(local, warm.registry, place.proxy.host)
    assert pull(local, f"{place.repo}@{digest(ended)}") == "hello again\n"
    edit(local)
    built = succeeded(local.run("push-app", f"{place.repo}:local"))  # by a machine that has built all of it
    assert len(built.built()) == len(LAYERS)
    assert digest(built) == digest(ended)


def test_unchanged_image_is_only_looked_up(runner: Tiny, place: Place, warm: Warm) -> None:
    cut_off(runner, place.proxy)
    ended = push(runner, place, tag="first")
    assert digest(ended) == digest(warm.first)
    assert traffic(place.proxy.requests) == {"GET manifest": 1, "HEAD manifest": 1}
    assert runner.blobs() == []


def test_changed_light_pin_fetches_only_its_wheel(runner: Tiny, place: Place) -> None:
    runner.replace("requirements/app.in", "alpha==1.0", "alpha==1.1")
    runner.lock()
    links = runner.folder / "links"
    kept = next(links.glob("alpha-1.1-*")).read_bytes()
    for path in links.iterdir():
        if not path.name.startswith("alpha-1.1-"):
            path.unlink()
    trust(runner, place.proxy.host)
    ended = push(runner, place)
    (name,) = ended.built()
    assert name.startswith("deps/bin-")
    assert ended.report["bytes"]["fetched"] == len(kept)
    assert downloaded(place.proxy) == 0
    assert uploaded(place.proxy) < 10_000


def test_step_on_a_remote_root_fetches_that_root(runner: Tiny, place: Place, warm: Warm) -> None:
    cut_off(runner, place.proxy)
    both = ("--cache", place.repo, "--cache-write", place.repo)
    ended = succeeded(runner.run("push-tools", f"{place.repo}:tools", *both))
    assert list(ended.built()) == ["tools/write", "tools/link"]
    fetched = [one for one in place.proxy.requests if one.method == "GET" and "/blobs/" in one.path]
    assert [one for one in fetched if one.down > 10_000] == [
        one for one in fetched if warm.blob("base/image") in one.path
    ]
    assert len(fetched) == 2  # the root and its listing
    # the layer of the step is in the remote cache, too: no other machine runs it
    forget(runner)
    place.proxy.clear()
    again = succeeded(runner.run("push-tools", f"{place.repo}:tools", *both))
    assert again.built() == {}
    assert digest(again) == digest(ended)
    assert downloaded(place.proxy) == 0


def test_image_is_imported_from_the_remote_cache_alone(machines: Callable[[], Tiny], place: Place, warm: Warm) -> None:
    tiny = machines()
    cut_off(tiny, place.proxy)
    ended = tiny.build("app", "--cache", place.repo)
    assert set(sources(ended).values()) == {"shared"}
    assert ended.report["bytes"]["fetched"] == sum(layer["size"] for layer in warm.first.report["layers"])
    assert tiny.run_image("app") == "hello from /app\n"
    assert tiny.blobs() == sorted(warm.blob(name) for name in LAYERS)
    assert tiny.left_over() == []
    # no cache is queried from here on
    place.proxy.clear()
    for arguments in ((), ("--cache", place.repo)):
        assert "nothing changed" in tiny.build("app", *arguments).text
    assert place.proxy.requests == []
    # two layers that another machine made may meet in an image that it never built: their paths are known here
    tiny.write("stages/app/app/extra.txt", "more\n")
    tiny.replace("stages/app/stage.toml", 'target = "/app"', 'target = "/opt/venv/lib"')
    assert list(tiny.build("app").built()) == ["app/app"]
    assert place.proxy.requests == []


def test_collision_with_a_layer_that_only_the_registry_has_is_found(runner: Tiny, place: Place) -> None:
    cut_off(runner, place.proxy)
    path = runner.project / "stages/app/alpha"
    runner.write("stages/app/alpha/__init__.py", "another\n")
    runner.git("add", "stages/app/alpha")
    site = "/opt/venv/lib/python3.13/site-packages/alpha"
    stage = (runner.project / "stages/app/stage.toml").read_text()
    copy = f'[[copy]]\nsource = "alpha"\ntarget = "{site}"\n\n[config]\n'
    runner.write("stages/app/stage.toml", stage.replace("[config]\n", copy, 1))
    message = one_error(runner.run("push-app", f"{place.repo}:next", "--cache", place.repo), 1)
    assert f"{site}/__init__.py is in the layer deps/bin-2 and in the layer app/alpha" in message
    assert downloaded(place.proxy) < 2000  # listings of what could meet
    path.joinpath("__init__.py").rename(path / "other.py")
    runner.git("add", "stages/app/alpha")
    ended = push(runner, place)
    assert list(ended.built()) == ["app/alpha"]
    assert downloaded(place.proxy) < 4000


# settings and messages of remote caches


def test_read_only_cache_is_not_written_to(runner: Tiny, place: Place) -> None:
    edit(runner)
    runner.replace("pyproject.toml", "[tool.buildkit]", f'[tool.buildkit]\ncache-write = "{place.repo}"')
    ended = runner.build("app", "--no-import", "--cache-read-only")
    assert list(ended.built()) == ["app/app"]
    assert {one.method for one in place.proxy.requests} == {"GET"}
    place.proxy.clear()
    forget(runner)
    ended = runner.build("app", "--no-import")  # the settings alone: it is read, and written to
    assert list(ended.built()) == ["app/app"]
    assert traffic(place.proxy.requests)["PUT manifest"] == 2


def test_one_cache_is_read_and_another_written(
    runner: Tiny, machines: Callable[[], Tiny], place: Place, warm: Warm
) -> None:
    other = f"{place.proxy.host}/other/cache"
    text = f'[tool.buildkit]\ncache = "{place.repo}"\ncache-write = "{other}"'
    runner.replace("pyproject.toml", "[tool.buildkit]", text)
    edit(runner)
    ended = runner.build("app", "--no-import")
    assert list(ended.built()) == ["app/app"]
    assert warnings(ended) == []
    index = read_stage_index(runner, other)
    assert [entry.name for entry in index.values()] == ["app/app"]  # the others are not there
    # who imports has all blobs here, and can share them
    local = machines()
    trust(local, warm.registry, place.proxy.host)
    edit(local)
    imported = local.build("app", "--cache", place.repo, "--cache-write", other)
    assert list(imported.built()) == ["app/app"]
    assert [entry.name for entry in read_stage_index(runner, other).values()] == LAYERS
    forget(runner)
    cut_off(runner, place.proxy)
    again = runner.build("app", "--no-import", "--cache", other)
    assert set(sources(again).values()) == {"shared"}


def read_stage_index(tiny: Tiny, repo: str, stage: str = "app") -> Mapping[Key, CacheRecord]:
    manifest = tiny.tool("skopeo", "inspect", "--raw", f"docker://{repo}:{stage_index_tag(stage)}")
    return decode_stage_index(manifest.encode()).records


def test_cache_and_image_in_different_repositories(runner: Tiny, place: Place, warm: Warm, tmp_path: Path) -> None:
    (tmp_path / "another").mkdir()
    with serve_registry(tmp_path / "another") as host:
        trust(runner, place.proxy.host, host)
        edit(runner)
        ended = succeeded(runner.run("push-app", f"{host}/my/app:one", "--cache", place.repo))
        assert list(ended.built()) == ["app/app"]
        assert f"{host}/my/app lacks {len(LAYERS) - 1} layers that must be fetched or built here first" in ended.text
        assert warnings(ended) == []
        assert ended.report["bytes"]["fetched"] == sum(x["size"] for x in warm.first.report["layers"][:-1])
        assert len(read_manifest(runner, f"{host}/my/app:one")["layers"]) == len(LAYERS)
        assert {one.method for one in place.proxy.requests} == {"GET"}


@pytest.mark.parametrize("setting", ["cache", "cache-write"])
def test_setting_that_is_not_a_repository_is_refused(runner: Tiny, setting: str) -> None:
    runner.replace("pyproject.toml", "[tool.buildkit]", f'[tool.buildkit]\n{setting} = "https://a.b/c"')
    message = runner.refuse("app", "--no-import", code=2)
    assert f"[tool.buildkit] {setting}: `https://a.b/c` is not a name in a registry" in message


def test_two_projects_may_use_one_cache_repository(
    runner: Tiny, machines: Callable[[], Tiny], place: Place, warm: Warm
) -> None:
    other = machines()
    trust(other, warm.registry, place.proxy.host)
    other.replace("pyproject.toml", 'name = "tiny"', 'name = "other"')
    other.write("stages/app/stage.toml", 'summary = "another"\nfrom = "base"\nships = true\n')
    shared = other.build("app", "--no-import", "--cache-write", place.repo)
    assert sources(shared) == {"base/image": "shared"}
    cut_off(runner, place.proxy)
    place.proxy.clear()
    ended = push(runner, place, tag="first")
    assert set(sources(ended).values()) == {"shared"}
    # one record is in the index that the other project published
    assert place.proxy.count("GET", "/manifests/cache-[0-9a-f]{64}$") == len(LAYERS) - 1


# failing caches


@pytest.mark.parametrize(
    ("method", "path", "fault", "says"),
    [
        ("", "/v2/", Fault(status=503, body=b""), "layers are built here and not published"),
        ("GET", "/manifests/", Fault(status=500, body=b"<html>"), "layers are built here and not published"),
        ("GET", "/manifests/cache-[0-9a-f]", Fault(cut_down=0), "layers are built here and not published"),
        (
            "GET",
            "/manifests/",
            Fault(status=401, body=b'{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}'),
            "layers are built here (log in: skopeo login",
        ),
        ("GET", "/manifests/", Fault(status=403, body=b'{"errors":[{"code":"DENIED"}]}'), "layers are built here (may"),
        (
            "GET",
            "/manifests/",
            Fault(status=429, body=b'{"errors":[{"code":"TOOMANYREQUESTS"}]}', headers={"Retry-After": "1"}),
            "layers are built here and not published (it limits requests",
        ),
        ("", "/v2/.", Fault(status=404, body=b""), "layers built here are not published"),
        (
            "POST",
            "/uploads/",
            Fault(status=403, body=b'{"errors":[{"code":"DENIED"}]}'),
            "layers built here are not published",
        ),
    ],
    ids=["down", "500", "cut", "401", "403", "429", "404", "read-only"],
)
def test_failing_cache_is_reported_once_and_fails_no_build(
    runner: Tiny, place: Place, warm: Warm, method: str, path: str, fault: Fault, says: str
) -> None:
    place.proxy.fault(method, path, fault)
    if method == "POST":
        runner.write("stages/app/app/more.sh", "echo more\n")
        for name in ("greeter", "speller"):
            runner.write(f"models/{name}/more.txt", f"more of {name}\n")
        runner.lock()
        runner.git("add", ".")
    elif "[0-9a-f]" in path:
        edit(runner)
    ended = runner.build("app", "--no-import", "--cache", place.repo, "--cache-write", place.repo)
    (warning,) = warnings(ended)
    assert "remote cache: " in warning
    assert place.proxy.host in warning
    assert place.repo in warning
    assert says in warning
    assert len(ended.report["layers"]) == len(LAYERS)
    if method == "GET" or fault.status == 503:
        assert list(ended.built()) == LAYERS
    if path == "/manifests/":
        assert ended.digests() == warm.first.digests()


def test_unreachable_cache_is_reported_once(runner: Tiny, place: Place, warm: Warm) -> None:
    ended = runner.build("app", "--no-import", "--cache", "127.0.0.1:1/no/cache")
    (warning,) = warnings(ended)
    assert "127.0.0.1:1: looking up 127.0.0.1:1/no/cache:cache-of-app failed: " in warning
    assert ended.digests() == warm.first.digests()


def test_slow_cache_is_waited_for(runner: Tiny, place: Place) -> None:
    cut_off(runner, place.proxy)
    place.proxy.fault("", "/v2/", Fault(delay=0.1, rate=100_000))
    ended = push(runner, place, tag="first")
    assert set(sources(ended).values()) == {"shared"}
    assert warnings(ended) == []


def test_cache_cut_off_within_a_blob_is_not_used_again(machines: Callable[[], Tiny], place: Place, warm: Warm) -> None:
    tiny = machines()
    trust(tiny, warm.registry, place.proxy.host)
    place.proxy.fault("GET", "/blobs/", Fault(cut_down=5), times=1)
    assert set(sources(tiny.build("app", "--no-import", "--cache", place.repo)).values()) == {"shared"}
    place.proxy.fault("GET", f"/blobs/sha256:{warm.blob('deps/bulk')}", Fault(cut_down=5))
    ended = tiny.build("app", "--cache", place.repo)
    (warning,) = warnings(ended)
    assert "fetching" in warning
    assert "EOF" in warning
    assert tiny.run_image("app") == "hello from /app\n"
    assert ended.digests() == warm.first.digests()
    assert "deps/bulk" in ended.built()
    assert tiny.left_over() == []


def test_ctrl_c_ends_waiting_for_a_cache(runner: Tiny, place: Place) -> None:
    place.proxy.fault("GET", "/manifests/cache-[0-9a-f]", Fault(delay=3600))
    edit(runner)
    session = ("build-app", "--no-import", "--cache", place.repo)
    ended = interrupt_when(runner, session, lambda: place.proxy.count("GET", "/manifests/cache-[0-9a-f]") > 0)
    assert ended.code == 130, ended.text
    assert "Traceback" not in ended.text


# entries that are not well


def test_blob_that_the_registry_lost_is_rebuilt(runner: Tiny, place: Place, warm: Warm) -> None:
    for name in ("deps/bin-1", "models/voice", "/opt/venv", "app/app"):
        place.blob(warm.blob(name)).unlink()
    ended = push(runner, place, tag="next")
    assert list(ended.built()) == ["/opt/venv", "deps/bin-1", "models/voice", "app/app"]
    assert digest(ended) == digest(warm.first)
    assert len(warnings(ended)) == 1
    assert "the remote cache did not deliver" in warnings(ended)[0]
    assert "(and 3 more)" in warnings(ended)[0]
    # and it is shared again
    forget(runner)
    cut_off(runner, place.proxy)
    again = push(runner, place, tag="next")
    assert set(sources(again).values()) == {"shared"}
    assert warnings(again) == []


@pytest.mark.parametrize("how", ["gone", "flipped"])
def test_required_blobs_that_cannot_be_fetched_are_rebuilt(
    machines: Callable[[], Tiny], place: Place, warm: Warm, how: str
) -> None:
    tiny = machines()
    trust(tiny, warm.registry, place.proxy.host)
    for name in ("deps/bulk", "models/greeter"):
        path = place.blob(warm.blob(name))
        if how == "gone":
            path.unlink()
        else:
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 1
            path.write_bytes(data)
    ended = tiny.build("app", "--cache", place.repo)
    assert list(ended.built()) == ["deps/bulk", "models/greeter"]
    assert ended.digests() == warm.first.digests()
    assert len(warnings(ended)) == 1
    assert tiny.run_image("app") == "hello from /app\n"
    assert tiny.left_over() == []


NONSENSE = {
    "empty": b"{}",
    "no stage index": b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":'
    b'{"mediaType":"application/vnd.oci.empty.v1+json","size":2,"digest":"sha256:'
    b'44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"},"layers":[]}',
    "wrong types": b'{"artifactType":"application/vnd.xoe.buildkit.roster.v1+json","annotations":'
    b'{"io.xoe.buildkit.layers":["../../etc/passwd"]}}',
    "deep": b"[" * 100_000,
    "huge": b'{"artifactType":"' + b"x" * 3_000_000 + b'"}',
    "too large": b" " * 5_000_000,
    "no text": b"\xff\xfe\x00\x1b[31m",
}


@pytest.mark.parametrize("nonsense", NONSENSE)
def test_malformed_stage_index_is_refused_and_keys_are_looked_up(
    runner: Tiny, place: Place, warm: Warm, nonsense: str
) -> None:
    cut_off(runner, place.proxy)
    place.proxy.fault("GET", "/manifests/cache-of-app", Fault(status=200, body=NONSENSE[nonsense]))
    ended = succeeded(runner.run("push-app", f"{place.repo}:next", "--cache", place.repo))
    assert digest(ended) == digest(warm.first)
    assert set(sources(ended).values()) == {"shared"}
    assert len(warnings(ended)) == 1
    assert f"refused from the remote cache: {place.repo}:cache-of-app" in warnings(ended)[0]
    assert place.proxy.count("GET", "/manifests/cache-[0-9a-f]{64}$") == len(LAYERS)


@pytest.mark.parametrize("nonsense", ["empty", "deep", "no text"])
def test_malformed_records_are_refused_and_their_layers_built(
    runner: Tiny, place: Place, warm: Warm, nonsense: str
) -> None:
    place.proxy.fault("GET", "/manifests/cache-of-app", Fault(status=404, body=b""))
    place.proxy.fault("GET", "/manifests/cache-[0-9a-f]{64}$", Fault(status=200, body=NONSENSE[nonsense]))
    ended = succeeded(runner.run("push-app", f"{place.repo}:next", "--cache", place.repo))
    assert list(ended.built()) == LAYERS
    assert digest(ended) == digest(warm.first)
    assert len(warnings(ended)) == 1
    assert f", and {len(LAYERS) - 1} more" in warnings(ended)[0]


def test_record_of_another_key_is_refused(runner: Tiny, place: Place, warm: Warm) -> None:
    other = f"/v2/{NAME}/manifests/{record_tag(warm.key('models/speller'))}"
    body = runner.tool("skopeo", "inspect", "--raw", f"docker://{place.repo}:{record_tag(warm.key('models/greeter'))}")
    place.proxy.fault("GET", "/manifests/cache-of-app", Fault(status=404, body=b""))
    place.proxy.fault("GET", f"{other}$", Fault(status=200, body=body.encode()))
    ended = succeeded(runner.run("push-app", f"{place.repo}:next", "--cache", place.repo))
    assert list(ended.built()) == ["models/speller"]
    assert digest(ended) == digest(warm.first)
    assert "it is the record of another key" in warnings(ended)[0]


def test_stage_index_with_wrong_blobs_is_detected_when_they_are_fetched(
    machines: Callable[[], Tiny], place: Place, warm: Warm, tmp_path: Path
) -> None:
    tiny = machines()
    trust(tiny, warm.registry, place.proxy.host)
    index = read_stage_index(tiny, place.repo)
    one, two = index[warm.key("models/greeter")], index[warm.key("models/speller")]
    lie = CacheRecord(key=one.key, kind=one.kind, name=one.name, result=two.result, path_prefixes=one.path_prefixes)
    data = encode_stage_index(({**index, one.key: lie}).values())
    put_entry(tiny, tmp_path / "index", f"{place.repo}:cache-of-app", data, EMPTY)
    ended = tiny.build("app", "--cache", place.repo)
    assert list(ended.built()) == ["models/greeter"]
    assert ended.digests() == warm.first.digests()
    assert tiny.run_image("app", "cat", "/models/greeter/weights.txt") == "weights of the greeter\n"


def test_damaged_local_blob_is_rebuilt_before_it_is_published(runner: Tiny, place: Place, warm: Warm) -> None:
    repo = f"{place.proxy.host}/new/cache"
    runner.build("app", "--no-import")
    path = runner.cache / "sha256" / warm.blob("deps/bulk")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    ended = runner.build("app", "--no-import", "--cache-write", repo)
    assert list(ended.built()) == ["deps/bulk"]
    assert len(warnings(ended)) == 1
    assert "was damaged" in warnings(ended)[0]
    forget(runner)
    cut_off(runner, place.proxy)
    again = succeeded(runner.run("push-app", f"{repo}:one", "--cache", repo))
    assert set(sources(again).values()) == {"shared"}
    assert digest(again) == digest(warm.first)


# concurrent builds, and other commands


def test_two_runners_publish_and_push_the_same_layers_concurrently(
    machines: Callable[[], Tiny], place: Place, warm: Warm
) -> None:
    repo = f"{place.proxy.host}/new/cache"
    both = [machines(), machines()]
    for tiny in both:
        trust(tiny, warm.registry, place.proxy.host)
    argv = ("push-app", f"{repo}:one", "--cache-write", repo)
    with ThreadPoolExecutor(2) as pool:
        ended = [succeeded(future.result()) for future in [pool.submit(tiny.run, *argv) for tiny in both]]
    assert {digest(one) for one in ended} == {digest(warm.first)}
    assert [warnings(one) for one in ended] == [[], []]
    assert [entry.name for entry in read_stage_index(both[0], repo).values()] == LAYERS
    forget(both[0])
    cut_off(both[0], place.proxy)
    again = succeeded(both[0].run("push-app", f"{repo}:two", "--cache", repo))
    assert set(sources(again).values()) == {"shared"}


def test_commands_work_with_layers_that_only_a_registry_has(runner: Tiny, place: Place, warm: Warm) -> None:
    push(runner, place, tag="first")
    assert runner.blobs() == []
    planned = succeeded(runner.run("plan", "app", "--no-import"))
    assert "10 to be built" in planned.text
    with_cache = succeeded(runner.run("plan", "app", "--no-import", "--cache", place.repo))
    assert "10 in the remote cache" in with_cache.text
    succeeded(runner.run("explain", "app"))
    succeeded(runner.run("cache", "ls"))
    succeeded(runner.run("cache", "verify"))
    succeeded(runner.run("cache", "gc"))
    ended = runner.build("app", "--no-import")  # without the cache
    assert list(ended.built()) == LAYERS
    assert all(f"it is only in the remote cache {place.repo}" in why for why in ended.built().values()), ended.built()
    assert ended.digests() == warm.first.digests()
    assert runner.build("app", "--no-import").built() == {}
