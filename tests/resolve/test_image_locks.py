"""Locking images: what registries have under names, and what is said where they have none or refuse."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from buildkit.declare.target import Target
from buildkit.digest import Digest
from buildkit.errors import BuildError, DefinitionError, RegistryError
from buildkit.events import Event, Note, ignore_event
from buildkit.locks.images_lock import IMAGES_LOCK, ImageContents, parse_images_lock
from buildkit.oci.reference import Ref, parse_ref
from buildkit.resolve.image_roots import NamedImage, find_image_at
from buildkit.resolve.images import ImageLocker, report_moved
from buildkit.resolve.request import LockDrafts, LockRequest, RootImage
from buildkit.tools.registry import RegistryClient
from buildkit.tools.registry_errors import RegistryTimeouts
from tests.e2e.tinyroot import RootSpecimen, push_specimen
from tests.registry import serve_registry

TARGET = Target(python="3.13", glibc="2.41", arch="x86_64")
NAME = "registry.test/python:3"
A, B, C = (Digest(digit * 64) for digit in "abc")
PLATFORMS = {"linux/amd64": B, "linux/arm64/v8": C}


class Roots:
    """Counts what is read of images."""

    def __init__(self) -> None:
        self.read: list[str] = []

    def read_contents(self, image: object, arch: str) -> ImageContents:
        self.read.append(arch)
        return ImageContents(id="debian", manager="dpkg", packages={"apt": str(len(self.read))})


@pytest.fixture
def locker(tmp_path: Path) -> ImageLocker:
    (tmp_path / "requirements").mkdir()
    request = LockRequest(root=tmp_path, target=TARGET, root_images=(RootImage(name=NAME, file="stages/a/stage.toml"),))
    roots = Roots()
    return ImageLocker(
        request=request,
        drafts=LockDrafts(tmp_path),
        find=lambda _ref: NamedImage(digest=A, platforms=PLATFORMS),
        roots=lambda: roots,  # type: ignore[arg-type,return-value]
        now=lambda: datetime(2026, 11, 29, 21, tzinfo=UTC),
    )


def lock(locker: ImageLocker, *, upgrade: bool = False) -> str:
    locker.lock(ignore_event, upgrade=upgrade)
    locker.drafts.write()
    return locker.drafts.get(IMAGES_LOCK)


def moved(locker: ImageLocker) -> ImageLocker:
    return replace(
        locker,
        find=lambda _ref: NamedImage(digest=B, platforms=PLATFORMS),
        now=lambda: datetime(2027, 1, 1, tzinfo=UTC),
    )


def test_names_keep_their_digest_until_they_are_upgraded(locker: ImageLocker) -> None:
    first = lock(locker)
    image = parse_images_lock(first)[NAME]
    assert (image.digest, image.locked, image.platforms) == (A, "2026-11-29T21:00:00Z", PLATFORMS)
    assert image.contents["amd64"].packages == {"apt": "1"}
    assert locker.find_stale() == ()
    assert lock(moved(locker)) == first
    assert lock(locker, upgrade=True) == first, "what has not moved is not read again, and keeps its time"
    image = parse_images_lock(lock(moved(locker), upgrade=True))[NAME]
    assert (image.digest, image.locked, image.contents["amd64"].packages) == (B, "2027-01-01T00:00:00Z", {"apt": "2"})


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('id = "debian"', 'id = "ubuntu"'),
        ('apt = "1"\n', ""),
        (f'\ndigest = "{A}"', f'\ndigest = "{C}"'),
        (f'"linux/amd64" = "{B}"\n', ""),
        ("sha256 = ", "checksum = "),
    ],
)
def test_contents_that_were_altered_are_stale_and_read_anew_of_the_digest(
    locker: ImageLocker, old: str, new: str
) -> None:
    first = lock(locker)
    (locker.request.root / IMAGES_LOCK).write_text(altered := first.replace(old, new, 1))
    asked = list[Ref]()

    def find(ref: Ref) -> NamedImage:
        asked.append(ref)
        return NamedImage(digest=ref.digest or B, platforms=PLATFORMS)

    again = replace(locker, drafts=LockDrafts(locker.request.root), find=find)
    (stale,) = again.find_stale()
    assert stale.what == f"{NAME}: what it holds on amd64 was not read of this digest"
    assert stale.hint == "run: nox -s lock"
    kept = parse_images_lock(altered)[NAME].digest
    image = parse_images_lock(lock(again))[NAME]
    assert asked == [Ref(host="registry.test", path="python", digest=kept)], "an edit does not move the name"
    assert (image.digest, image.platforms, image.contents["amd64"].packages) == (kept, PLATFORMS, {"apt": "2"})
    assert again.find_stale() == ()


def test_altered_entry_of_a_digest_that_is_gone_says_how_to_take_another(locker: ImageLocker) -> None:
    (locker.request.root / IMAGES_LOCK).write_text(lock(locker).replace("debian", "ubuntu"))
    gone = replace(locker, drafts=LockDrafts(locker.request.root), find=lambda _ref: None)
    with pytest.raises(DefinitionError, match=rf"registry\.test has no image registry\.test/python@{A}") as caught:
        lock(gone)
    assert "nox -s lock -- --upgrade-images" in caught.value.hint


def test_lock_of_another_processor_is_stale_and_keeps_what_it_has(locker: ImageLocker) -> None:
    lock(locker)
    other = replace(locker, request=replace(locker.request, target=replace(TARGET, arch="aarch64")))
    (stale,) = other.find_stale()
    assert stale.what == f"{NAME}: the lock does not say what it holds on arm64"
    added = parse_images_lock(lock(moved(other)))[NAME]
    assert (added.digest, added.contents.keys()) == (A, {"amd64", "arm64"}), "only an upgrade moves a name"


def test_lock_that_is_missing_damaged_or_lacks_a_name_is_stale_and_made_again(locker: ImageLocker) -> None:
    (missing,) = locker.find_stale()
    assert missing.what == "the lock is missing"
    locker.drafts.decide(IMAGES_LOCK, "image = 1")
    assert locker.find_stale()
    locker.drafts.decide(IMAGES_LOCK, "")
    (stale,) = locker.find_stale()
    assert stale.what == f"{NAME}: the lock does not have it"
    assert NAME in lock(locker)


def test_image_without_one_for_the_processor_is_refused_with_those_that_it_is_for(locker: ImageLocker) -> None:
    only_arm = replace(locker, find=lambda _ref: NamedImage(digest=A, platforms={"linux/arm64/v8": C}))
    with pytest.raises(DefinitionError, match=r"stages/a/stage.toml.*not made for linux/amd64; it is for linux/arm64"):
        lock(only_arm)


def test_denied_name_may_be_one_that_does_not_exist(locker: ImageLocker) -> None:
    def refuse(_ref: Ref) -> NamedImage | None:
        raise RegistryError("no", hint="log in", denied=True)

    with pytest.raises(RegistryError) as caught:
        lock(replace(locker, find=refuse))
    assert caught.value.hint == "log in; registries also answer so for a name that they do not have"
    with pytest.raises(DefinitionError, match=r"registry\.test has no image registry\.test/python:3"):
        lock(replace(locker, find=lambda _ref: None))


# a real registry


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RegistryClient:
    monkeypatch.setenv("HOME", str(tmp_path))
    return RegistryClient(threading.Event(), RegistryTimeouts(look=10, waits=()))


def trust(tmp_path: Path, text: str) -> None:
    settings = tmp_path / ".config/containers/registries.conf"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text(text)


@pytest.mark.tools
def test_registry_is_asked_for_every_platform_also_through_a_mirror(tmp_path: Path, client: RegistryClient) -> None:
    for name in ("registry", "root", "index"):
        (tmp_path / name).mkdir()
    with serve_registry(tmp_path / "registry") as host:
        insecure = f'[[registry]]\nlocation = "{host}"\ninsecure = true\n'
        trust(tmp_path, insecure)
        pinned = push_specimen(
            host, tmp_path / "root", {**os.environ, "HOME": str(tmp_path)}, RootSpecimen(name="x/root")
        )
        one = find_image_at(client, parse_ref(f"{host}/x/root:latest", "test"))
        digest = Digest.parse(pinned.partition("@")[2])
        assert one is not None
        assert (one.digest, list(one.platforms.values())) == (digest, [digest])
        assert all(platform.startswith("linux/") for platform in one.platforms)
        assert find_image_at(client, parse_ref(f"{host}/x/root:absent", "test")) is None

        index = _push_index(tmp_path / "index", client, parse_ref(f"{host}/x/root:both", "test"), digest)
        both = NamedImage(digest=index, platforms={"linux/amd64": digest, "linux/arm64/v8": digest})
        assert find_image_at(client, parse_ref(f"{host}/x/root:both", "test")) == both
        mirror = f'{insecure}[[registry]]\nprefix = "docker.test"\nlocation = "{host}"\ninsecure = true\n'
        trust(tmp_path, mirror)
        again = RegistryClient(threading.Event(), RegistryTimeouts(look=10, waits=()))
        assert find_image_at(again, parse_ref("docker.test/x/root:both", "test")) == both
        assert "read elsewhere" in again.why_skopeo(parse_ref("docker.test/x/root:both", "test"))
    with pytest.raises(RegistryError, match="looking up"):
        find_image_at(client, parse_ref(f"{host}/x/root:latest", "test"))


def _push_index(folder: Path, client: RegistryClient, ref: Ref, digest: Digest) -> Digest:
    size = len(client.manifest(Ref(host=ref.host, path=ref.path, digest=digest)) or b"")
    listed = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": str(digest), "size": size}
    platforms = [
        {"os": "linux", "architecture": "amd64"},
        {"os": "linux", "architecture": "arm64", "variant": "v8"},
        {"os": "unknown", "architecture": "unknown"},  # as builders list attestations
    ]
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{**listed, "platform": platform} for platform in platforms],
    }
    data = json.dumps(manifest).encode()
    (folder / "manifest.json").write_bytes(data)
    (folder / "version").write_text("Directory Transport Version: 1.1\n")
    assert client.push_index(folder, ref)
    return Digest.of(data)


@pytest.mark.tools
def test_check_says_what_is_gone_and_what_is_not_known_and_fails_for_neither(
    tmp_path: Path, locker: ImageLocker, client: RegistryClient
) -> None:
    (tmp_path / "registry").mkdir()
    said: list[Event] = []
    with serve_registry(tmp_path / "registry") as host:
        trust(tmp_path, f'[[registry]]\nlocation = "{host}"\ninsecure = true\n')
        image = RootImage(name=f"{host}/x/gone:1", file="stages/a/stage.toml")
        named = replace(locker, request=replace(locker.request, root_images=(image,)))
        lock(named)
        report_moved(named.request, said.append)
        assert said == [Note(text=f"{image.name}: its registry no longer has this name", warning=True)]
    report_moved(named.request, said.append)
    (note,) = said[1:]
    assert isinstance(note, Note)
    assert f"{image.name}: whether it has moved is not known: " in note.text
    assert not note.warning
    assert named.find_stale() == ()


@pytest.mark.tools
def test_registry_that_asks_for_a_log_in_is_said_with_the_command(tmp_path: Path, client: RegistryClient) -> None:
    (tmp_path / "registry").mkdir()
    with serve_registry(tmp_path / "registry", password=True) as host:
        trust(tmp_path, f'[[registry]]\nlocation = "{host}"\ninsecure = true\n')
        with pytest.raises(RegistryError) as caught:
            find_image_at(client, parse_ref(f"{host}/x/root:latest", "test"))
    assert caught.value.denied
    assert f"skopeo login {host}" in caught.value.hint


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ({"schemaVersion": 1, "fsLayers": []}, "schema 1"),
        ({"schemaVersion": 2, "layers": {}}, "not an image that can be read"),
        ({"schemaVersion": 2, "manifests": [{"mediaType": "x", "size": 1, "digest": "sha256:0"}]}, "can be read"),
        ([], "not an image that can be read"),
    ],
)
def test_what_is_no_image_is_refused(manifest: object, message: str) -> None:
    class Client:
        def manifest(self, _ref: Ref) -> bytes:
            return json.dumps(manifest).encode()

    with pytest.raises(BuildError, match=message):
        find_image_at(Client(), parse_ref("registry.test/x:1", "test"))  # type: ignore[arg-type]
