"""Pushes from the local cache to a real registry whose requests and bytes are counted."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.machines import (
    digest,
    downloaded,
    forget,
    interrupt_when,
    is_there,
    pull,
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
from tests.registry import make_authority, serve_registry, write_login

pytestmark = pytest.mark.tools

NO_LOGIN = "unauthorized|authentication required"  # by skopeo 1.9, and by 1.18
ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"


def push(tiny: Tiny, *arguments: str) -> SessionResult:
    return succeeded(tiny.run("push-app", *arguments))


@contextmanager
def serve_another(tiny: Tiny, folder: Path, *hosts: str) -> Iterator[str]:
    """A registry that has nothing yet, and that no cache of skopeo's has heard of."""
    folder.mkdir()
    with serve_registry(folder) as host:
        trust(tiny, host, *hosts)
        yield host
    trust(tiny, *hosts)


def test_push_tags_the_image_and_imports_nothing(tiny: Tiny, other: Tiny, proxy: FaultyProxy, repo: str) -> None:
    ended = push(tiny, f"{repo}:one", "--tag", "two", "--tag", "3.0", "--tag", "one")
    names = [f"{repo}:{tag}" for tag in ("one", "two", "3.0")]
    assert ended.report["pushed"] == [{"ref": name, "digest": digest(ended)} for name in names]
    assert [line for line in ended.text.splitlines() if line.startswith("pushed ")] == [
        f"pushed {name}@{digest(ended)}" for name in names
    ]
    assert tiny.images() == {}
    assert ended.report["bytes"]["imported"] == 0
    for name in names:
        assert json.loads(tiny.tool("skopeo", "inspect", f"docker://{name}"))["Digest"] == digest(ended)
    there = read_manifest(tiny, names[0])
    assert there["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
    assert [layer["digest"] for layer in there["layers"]] == [layer["digest"] for layer in ended.report["layers"]]
    ours = [layer["mediaType"] for layer in there["layers"][1:]]  # the root is as its registry has it
    assert set(ours) <= {ZSTD, ZSTD.removesuffix("+zstd")}
    assert ZSTD in ours
    # every blob went up once, and the config and the manifest
    config = there["config"]["size"]
    sizes = {layer["digest"]: layer["size"] for layer in there["layers"]}
    body = len(tiny.tool("skopeo", "inspect", "--raw", f"docker://{names[0]}").encode())
    assert ended.report["bytes"]["pushed"] == sum(sizes.values()) + config + 3 * body
    assert uploaded(proxy) == ended.report["bytes"]["pushed"]
    # it runs on another machine
    assert pull(other, f"{repo}:two") == "hello from /app\n"
    assert pull(other, f"{repo}@{digest(ended)}", "/bin/sh", "-c", "echo $FROM_ROOT; id -u") == "yes\n1000\n"
    assert pull(other, f"{repo}:one", "cat", "/app/words.txt") == "some words\n"


def test_push_uploads_only_changed_layers(tiny: Tiny, other: Tiny, proxy: FaultyProxy, repo: str) -> None:
    first = push(tiny, repo)
    assert first.report["pushed"] == [{"ref": f"{repo}:latest", "digest": digest(first)}]
    proxy.clear()
    again = push(tiny, repo)
    assert traffic(proxy.requests) == {"HEAD manifest": 1}
    assert again.report["bytes"]["pushed"] == uploaded(proxy) == 0
    assert "nothing pushed" in again.text
    assert digest(again) == digest(first)
    proxy.clear()
    tiny.write("stages/app/app/main.sh", 'echo "$GREETING again"\n')
    changed = push(tiny, repo)
    assert traffic(proxy.requests) == {  # what is new are the layer and the config
        "HEAD manifest": 1,
        "GET manifest": 1,
        "POST upload": 2,
        "PUT upload": 2,
        "PUT manifest": 1,
    }
    (layer,) = (layer for layer in changed.report["layers"] if layer["source"] == "built")
    body = len(tiny.tool("skopeo", "inspect", "--raw", f"docker://{repo}").encode())
    assert uploaded(proxy) == layer["size"] + read_manifest(tiny, repo)["config"]["size"] + body
    assert uploaded(proxy) == changed.report["bytes"]["pushed"] < 5000
    assert downloaded(proxy) == 0
    assert pull(other, repo) == "hello again\n"
    # the old image, whose blobs are all there, under a new name
    proxy.clear()
    tiny.git("checkout", "--quiet", ".")
    back = push(tiny, f"{repo}:back")
    assert digest(back) == digest(first)
    assert uploaded(proxy) == body
    sent = traffic(proxy.requests)
    assert "GET manifest" not in sent  # there is none of that name
    assert sent["HEAD blob"] == 9 + 1


def test_new_name_beside_one_that_exists_asks_for_what_is_new(tiny: Tiny, proxy: FaultyProxy, repo: str) -> None:
    push(tiny, f"{repo}:latest")
    tiny.write("stages/app/app/main.sh", 'echo "$GREETING beside"\n')
    proxy.clear()
    ended = push(tiny, f"{repo}:two", "--tag", "latest", "--tag", "three")
    assert traffic(proxy.requests) == {
        "HEAD manifest": 3,
        "GET manifest": 1,
        "POST upload": 2,
        "PUT upload": 2,
        "PUT manifest": 3,
    }
    assert {one["digest"] for one in ended.report["pushed"]} == {digest(ended)}


@pytest.mark.parametrize("status", [401, 403])
def test_log_in_that_may_not_pull_asks_for_each_blob(tiny: Tiny, proxy: FaultyProxy, repo: str, status: int) -> None:
    push(tiny, repo)
    tiny.write("stages/app/app/main.sh", f'echo "$GREETING {status}"\n')
    proxy.clear()
    proxy.fault("GET", "/manifests/", Fault(status=status, body=b'{"errors":[{"code":"DENIED"}]}'))
    push(tiny, repo)
    assert proxy.count("GET", "/manifests/") == proxy.count("PUT", "/manifests/") == 1
    assert proxy.count("HEAD", "/blobs/") == 9 + 1


@pytest.mark.parametrize("here", [True, False])
def test_blob_that_the_repository_lost_is_pushed_again_although_its_manifest_lists_it(
    tiny: Tiny, proxy: FaultyProxy, registry: str, tmp_path: Path, here: bool
) -> None:
    another = serve_another(tiny, tmp_path / "another", registry, proxy.host)
    with another as host, FaultyProxy(host) as counted:
        trust(tiny, registry, counted.host)
        repo = f"{counted.host}/lost/app"
        first = tiny.build("app", "--push", repo)
        (greeter,) = (layer["digest"] for layer in first.report["layers"] if layer["name"] == "models/greeter")
        blob = greeter.removeprefix("sha256:")
        link = tmp_path / "another/data/docker/registry/v2/repositories/lost/app/_layers/sha256" / blob / "link"
        link.unlink()
        if not here:
            (tiny.cache / "sha256" / blob).unlink()
        tiny.write("stages/app/app/main.sh", f'echo "$GREETING found {here}"\n')
        counted.clear()
        again = tiny.build("app", "--push", repo)
        assert set(again.built()) == ({"app/app"} if here else {"app/app", "models/greeter"})
        assert (f"{repo} lacks 1 layer that must be fetched or built here first" in again.text) == (not here)
        assert warnings(again) == []
        assert counted.count("PUT", "/manifests/") == (2 if here else 3)  # refused, in each attempt, and stored
        assert link.is_file()
        assert len(read_manifest(tiny, repo)["layers"]) == 9


def test_build_with_push_option_pushes(tiny: Tiny, proxy: FaultyProxy, repo: str) -> None:
    ended = tiny.build("app", "--push", f"{repo}:one", "--tag", "two")
    assert tiny.run_image("app") == "hello from /app\n"
    assert ended.report["digest"] != digest(ended)  # storage has other blobs of the same layers
    image = json.loads(tiny.tool("skopeo", "inspect", "--raw", "containers-storage:localhost/tiny/app:latest"))
    assert read_manifest(tiny, f"{repo}:two")["config"]["digest"] == image["config"]["digest"]
    proxy.clear()
    again = tiny.build("app", "--push", f"{repo}:one", "--tag", "two")
    assert again.report["bytes"] == {"fetched": 0, "built": 0, "imported": 0, "pushed": 0}
    assert uploaded(proxy) == 0


def test_all_shipping_stages_are_pushed_to_one_repository(tiny: Tiny, other: Tiny, repo: str) -> None:
    tiny.write(
        "stages/worker/stage.toml", 'summary = "also ships"\nfrom = "app"\nships = true\n[config]\nworkdir = "/"\n'
    )
    ended = succeeded(tiny.run("build", "--push", repo, "--tag", "v1", "--no-import"))
    names = {one["ref"]: one["digest"] for report in ended.report for one in report["pushed"]}
    assert list(names) == [f"{repo}:app", f"{repo}:app-v1", f"{repo}:worker", f"{repo}:worker-v1"]
    assert names[f"{repo}:app"] == names[f"{repo}:app-v1"] != names[f"{repo}:worker"]
    assert pull(other, f"{repo}:app-v1") == "hello from /app\n"
    assert pull(other, f"{repo}:worker-v1", "/bin/sh", "-c", "echo $PWD") == "/\n"
    assert "must be a repository" in one_error(tiny.run("build", "--push", f"{repo}:tag"), 2)


def test_push_to_another_repository_of_the_same_registry(tiny: Tiny, proxy: FaultyProxy, repo: str) -> None:
    first = push(tiny, f"{repo}/one")
    proxy.clear()
    second = push(tiny, f"{repo}/two")
    assert digest(second) == digest(first)
    assert uploaded(proxy) < 10_000  # the registry links what the ledger knows to be there
    assert traffic(proxy.requests)["POST upload"] >= 9
    assert len(read_manifest(tiny, f"{repo}/two")["layers"]) == 9


@pytest.mark.parametrize("shares", [False, True])
def test_root_of_the_same_registry_is_linked_and_not_uploaded(
    tiny: Tiny, other: Tiny, proxy: FaultyProxy, repo: str, shares: bool
) -> None:
    stage = tiny.project / "stages/base/stage.toml"
    (root,) = re.findall(r'image = "(.*)"', stage.read_text())
    name = f"{repo}/root"
    copy = ("skopeo", "copy", "--preserve-digests")
    tiny.tool(*copy, f"docker://{root}", f"docker://{name}:one")
    tiny.replace("stages/base/stage.toml", root, f"{name}@{root.partition('@')[2]}")
    forget(tiny)
    proxy.clear()
    ended = push(tiny, f"{repo}/app", *(("--cache-write", f"{repo}/cache") if shares else ()))
    (base,) = (layer for layer in ended.report["layers"] if layer["name"] == "base/image")
    quoted = base["digest"].replace(":", "%3A")
    asked = {(one.method, one.status) for one in proxy.requests if quoted in one.path}
    assert asked == {("POST", 201)}  # by `mount`
    assert uploaded(proxy) == ended.report["bytes"]["pushed"] or shares
    assert pull(other, f"{repo}/app") == "hello from /app\n"


def test_rebuilt_identical_blobs_are_not_uploaded(tiny: Tiny, proxy: FaultyProxy, repo: str) -> None:
    first = push(tiny, repo)
    proxy.clear()
    forget(tiny)
    again = push(tiny, repo)
    assert len(again.built()) == 9
    assert digest(again) == digest(first)
    assert uploaded(proxy) == 0
    assert traffic(proxy.requests) == {"HEAD manifest": 1, "GET manifest": 1}  # looked up while layers were built
    # another recipe, the same layer: config and manifest say nothing of recipes
    tiny.write("stages/tools/stage.toml", (tiny.project / "stages/tools/stage.toml").read_text().replace("app", "base"))
    before = succeeded(tiny.run("push-tools", f"{repo}:tools"))
    proxy.clear()
    tiny.replace("stages/tools/stage.toml", "mkdir -p /opt/tools\n", "mkdir -p /opt/tools # as before\n")
    after = succeeded(tiny.run("push-tools", f"{repo}:tools"))
    assert list(after.built()) == ["tools/write", "tools/link"]
    assert after.digests() == before.digests()
    assert [one for one in proxy.requests if "/blobs/uploads/" in one.path and one.up > 4000] == []


def test_failed_push_fails_the_build(tiny: Tiny, proxy: FaultyProxy, repo: str, sends: str) -> None:
    tiny.write("stages/app/app/main.sh", f'echo "$GREETING refused {sends}"\n')
    body = b'{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}'
    proxy.fault("POST", "/uploads/", Fault(status=403, body=body))
    error = tiny.refuse("app", "--push", f"{repo}:one", code=1)
    assert f"{proxy.host}: pushing {repo}:one failed: " in error
    assert "denied" in error
    assert f"hint: may this log-in do that there? log in as another: skopeo login {proxy.host}" in error
    assert tiny.run_image("app") == f"hello refused {sends}\n"  # it was built and delivered before that
    proxy.clear()
    assert "app/app" not in push(tiny, f"{repo}:one").built()


def test_registry_that_is_down_is_retried_and_named(tiny: Tiny, proxy: FaultyProxy, repo: str, sends: str) -> None:
    tiny.build("app", "--no-import")  # no lookup runs during the build
    proxy.fault("", "/v2/", Fault(status=503, body=b""))
    message = one_error(tiny.run("push-app", f"{repo}:one"), 1)
    assert f"{proxy.host}: looking up {repo}:one failed: " in message
    assert "503" in message
    assert proxy.count("HEAD", "/manifests/one") + proxy.count("GET", "/v2/$") == 4


def test_denied_lookup_does_not_prevent_a_push(tiny: Tiny, proxy: FaultyProxy, repo: str, sends: str) -> None:
    method = "HEAD" if sends == "PUT" else "GET"
    proxy.fault(method, "/manifests/", Fault(status=403, body=b'{"errors":[{"code":"DENIED"}]}'), times=1)
    ended = push(tiny, f"{repo}:one")  # so some registries answer for what is not there yet
    (one,) = ended.report["pushed"]
    assert one.get("by") == (None if sends == "PUT" else "skopeo")
    assert ("by skopeo: BUILDKIT_REGISTRY_CLIENT asks for it" in ended.text) == (sends != "PUT")
    assert len(read_manifest(tiny, f"{repo}:one")["layers"]) == 9


def test_interrupted_push_leaves_nothing(tiny: Tiny, proxy: FaultyProxy, repo: str, sends: str) -> None:
    push(tiny, f"{repo}/warm")
    tiny.write("stages/app/app/main.sh", f'echo "$GREETING slowly {sends}"\n')
    proxy.clear()
    proxy.fault(sends, "/uploads/", Fault(delay=3600))
    ended = interrupt_when(tiny, ("push-app", f"{repo}/warm:one"), lambda: proxy.count(sends, "/uploads/") > 0)
    assert ended.code == 130, ended.text
    assert "interrupted" in ended.text
    assert "Traceback" not in ended.text
    assert tiny.left_over() == []
    proxy.clear()
    assert not is_there(tiny, f"{repo}/warm:one")
    assert push(tiny, f"{repo}/warm:one").built() == {}
    assert len(read_manifest(tiny, f"{repo}/warm:one")["layers"]) == 9


def test_damaged_local_blob_is_rebuilt_before_it_is_pushed(
    tiny: Tiny, proxy: FaultyProxy, registry: str, repo: str, tmp_path: Path, sends: str
) -> None:
    first = push(tiny, f"{repo}/good")
    (bulk,) = (layer for layer in first.report["layers"] if layer["name"] == "deps/bulk")
    path = tiny.cache / "sha256" / bulk["digest"].removeprefix("sha256:")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with serve_another(tiny, tmp_path / "another", registry, proxy.host) as host:  # a registry that has none of it
        again = push(tiny, f"{host}/fresh")
        assert len(read_manifest(tiny, f"{host}/fresh")["layers"]) == 9
    assert digest(again) == digest(first)
    assert list(again.built()) == ["deps/bulk"]
    assert len(warnings(again)) == 1
    assert re.search("was damaged|Digest did not match", warnings(again)[0])


def test_layer_that_only_local_storage_has_is_rebuilt_for_another_registry(
    tiny: Tiny, proxy: FaultyProxy, registry: str, repo: str, tmp_path: Path
) -> None:
    first = tiny.build("app", "--push", f"{repo}/there")
    (greeter,) = (layer for layer in first.report["layers"] if layer["name"] == "models/greeter")
    path = tiny.cache / "sha256" / greeter["digest"].removeprefix("sha256:")
    path.unlink()
    tiny.write("stages/app/app/main.sh", 'echo "$GREETING from storage"\n')
    there = tiny.build("app", "--push", f"{repo}/there")
    assert list(there.built()) == ["app/app"]  # the registry has it, so nobody needs its bytes
    assert not path.exists()
    assert len(read_manifest(tiny, f"{repo}/there")["layers"]) == 9
    with serve_another(tiny, tmp_path / "another", registry, proxy.host) as host:
        lacking = tiny.build("app", "--push", f"{host}/fresh")
        assert list(lacking.built()) == ["models/greeter"]
        assert f"{host}/fresh lacks 1 layer that must be fetched or built here first" in lacking.text
        assert digest(lacking) == digest(there)
        assert len(read_manifest(tiny, f"{host}/fresh")["layers"]) == 9


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("nonsense",), "`nonsense` is not a name in a registry"),
        (("me/app:1.0",), "`me` is not a host"),
        (("https://a.b/c",), "`https://a.b/c` is not a name in a registry"),
        (("a.b/C:d",), "`a.b/C:d` is not a name in a registry"),
        (("a.b/c@sha256:" + "0" * 64,), "names a digest"),
        (("a.b/c:d", "--tag", "-x"), "expected one argument"),
        (("a.b/c:d", "--tag", "x/y"), "`x/y` is not a valid tag"),
        (("a.b/c:cache-of-app",), "belong to the remote cache"),
        ((), "the following arguments are required: REF"),
        (("a.b/c", "--cache", "nonsense"), "--cache: `nonsense` is not a name in a registry"),
        (("a.b/c", "--cache-write", "a.b/c:d"), "--cache-write: `a.b/c:d` must be a repository"),
    ],
)
def test_invalid_references_are_usage_errors(tiny: Tiny, arguments: tuple[str, ...], says: str) -> None:
    message = one_error(tiny.run("push-app", *arguments), 2)
    assert says in message
    assert "hint: " in message


def test_push_to_a_registry_with_password_and_private_authority(tiny: Tiny, tmp_path: Path, sends: str) -> None:
    (tmp_path / "ca").mkdir()
    (tmp_path / "data").mkdir()
    authority = make_authority(tmp_path / "ca")
    with serve_registry(tmp_path / "data", password=True, authority=authority) as host:
        ref = f"{host}/some/app:one"
        message = one_error(tiny.run("push-app", ref), 1)
        assert "x509" in message
        assert f"/etc/containers/certs.d/{host}/ca.crt" in message
        message = one_error(tiny.run("push-app", ref, SSL_CERT_FILE=str(authority.ca)), 1)
        assert re.search(NO_LOGIN, message)
        trusted = tiny.folder / "home/.config/containers/certs.d" / host
        trusted.mkdir(parents=True)
        shutil.copyfile(authority.ca, trusted / "ca.crt")
        message = one_error(tiny.run("push-app", ref), 1)
        assert f"hint: log in: skopeo login {host}" in message
        login = str(write_login(tmp_path / "login", host))
        wrong = write_login(tmp_path / "wrong", host, password="not-the-password")
        message = one_error(tiny.run("push-app", ref, REGISTRY_AUTH_FILE=str(wrong)), 1)
        assert re.search(NO_LOGIN, message)
        assert "not-the-password" not in message
        ended = succeeded(tiny.run("push-app", ref, "--cache-write", f"{host}/some/app", REGISTRY_AUTH_FILE=login))
        assert warnings(ended) == []
        forget(tiny)
        again = succeeded(tiny.run("push-app", ref, "--cache", f"{host}/some/app", REGISTRY_AUTH_FILE=login))
        assert set(sources(again).values()) == {"shared"}
        assert digest(again) == digest(ended)


def test_first_push_to_a_repository_says_who_cannot_pull_zstd(tiny: Tiny, repo: str) -> None:
    def said(*arguments: str) -> int:
        argv = tiny.argv("push-app", *arguments)
        done = subprocess.run(argv, cwd=tiny.folder, env=tiny.env, capture_output=True, text=True, check=True)
        return (done.stdout + done.stderr).count("has zstd layers now")

    assert said(f"{repo}/quiet:1", "--json", str(tiny.folder / "report.json")) == 0
    assert [said(f"{repo}:{tag}") for tag in (1, 2)] == [1, 0]
    text = (tiny.project / "pyproject.toml").read_text()
    tiny.write("pyproject.toml", text.replace("[tool.buildkit]", '[tool.buildkit]\ncompression = "gzip"'))
    assert said(f"{repo}/old:1") == 0


def test_layers_in_parts_have_their_tables_from_a_cache_too(tiny: Tiny, repo: str) -> None:
    text = (tiny.project / "pyproject.toml").read_text()
    tiny.write("pyproject.toml", text.replace("[tool.buildkit]", '[tool.buildkit]\ncompression = "zstd:chunked"'))
    first = push(tiny, f"{repo}:parts", "--cache-write", f"{repo}/cache")
    there = read_manifest(tiny, f"{repo}:parts")
    layers = [one for one in there["layers"][1:] if one["mediaType"] == ZSTD]
    tables = {one["annotations"]["io.github.containers.zstd-chunked.manifest-checksum"] for one in layers}
    assert len(tables) == len(layers) > 2
    forget(tiny)
    again = push(tiny, f"{repo}:again", "--cache", f"{repo}/cache")
    assert set(sources(again).values()) == {"shared"}
    assert digest(again) == digest(first)
