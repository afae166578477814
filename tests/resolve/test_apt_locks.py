"""Apt locks, including those that extend others, with a fake resolver."""

import pytest

from buildkit.declare.target import Target
from buildkit.digest import Digest
from buildkit.errors import DefinitionError, ToolError
from buildkit.events import StepFailed, StepFinished, StepStarted, ignore_event
from buildkit.locks.apt_lists import AptList
from buildkit.locks.apt_lock import parse_apt_lock
from buildkit.locks.images_lock import IMAGES_LOCK, ImageContents, LockedImage, render_images_lock
from buildkit.locks.pins import AptPin
from buildkit.resolve.apt import find_stale_apt, lock_apt
from buildkit.resolve.request import LockDrafts, LockRequest

TARGET = Target(python="3.13", glibc="2.41", arch="x86_64")
BASE = AptList(file="requirements/base.apt", suite="trixie", variant="minbase")
BUILDER = AptList(file="requirements/builder.apt", suite="trixie", variant="minbase", base=(BASE.file,))


@pytest.fixture
def root(tmp_path):
    (tmp_path / "requirements").mkdir()
    (tmp_path / BASE.file).write_text("python3\n")
    (tmp_path / BUILDER.file).write_text("gcc # compiler\n")
    return tmp_path


class Resolver:
    def __init__(self):
        self.asked, self.version = [], "1"

    def __call__(self, request, _image):
        self.asked.append(request)
        kept = {pin.name: pin for pin in (*request.preferred, *request.kept)}
        names = {"libc6", *request.packages, *(pin.name for pin in request.kept)}
        return tuple(kept.get(name) or AptPin(name=name, version=self.version) for name in sorted(names))


def lock(root, resolver, upgrade=False, emit=ignore_event):
    request = LockRequest(root=root, target=TARGET, apt=(BASE, BUILDER))
    drafts = LockDrafts(root)
    lock_apt(request, drafts, resolver, emit, upgrade=upgrade)
    changed = drafts.changed()
    drafts.write()
    return changed


def pins(root, name):
    text = (root / f"requirements/{name}.apt.lock").read_text()
    return {pin.name: pin.version for pin in parse_apt_lock(text, "x").pins}


def test_extending_apt_lock_keeps_base_versions_and_contains_only_additions(root):
    resolver = Resolver()
    lock(root, resolver)
    assert pins(root, "base") == {"libc6": "1", "python3": "1"}
    assert pins(root, "builder") == {"gcc": "1"}
    assert [pin.name for pin in resolver.asked[1].kept] == ["libc6", "python3"]
    assert resolver.asked[0].arch == "amd64"


def test_resolving_a_list_is_a_step_that_finishes_or_fails(root):
    events = []

    def refuse(request, _image):
        raise ToolError(f"cannot resolve {request.file}")

    lock(root, Resolver(), emit=events.append)
    with pytest.raises(ToolError):
        lock(root, refuse, upgrade=True, emit=events.append)
    assert [(type(event), event.step) for event in events] == [
        (StepStarted, "lock base.apt"),
        (StepFinished, "lock base.apt"),
        (StepStarted, "lock builder.apt"),
        (StepFinished, "lock builder.apt"),
        (StepStarted, "lock base.apt"),
        (StepFailed, "lock base.apt"),
    ]
    assert events[-1].message == "cannot resolve requirements/base.apt"


def test_locking_apt_twice_resolves_once(root):
    resolver = Resolver()
    lock(root, resolver)
    assert lock(root, resolver) == ()
    assert len(resolver.asked) == 2


def test_changed_apt_list_keeps_versions_and_relocks_lists_that_extend_it(root):
    resolver = Resolver()
    lock(root, resolver)
    resolver.version = "2"
    (root / BASE.file).write_text("python3\ntzdata\n")
    assert lock(root, resolver) == ("requirements/base.apt.lock", "requirements/builder.apt.lock")
    assert pins(root, "base") == {"libc6": "1", "python3": "1", "tzdata": "2"}
    assert pins(root, "builder") == {"gcc": "1"}


def test_upgrade_ignores_locked_versions(root):
    resolver = Resolver()
    lock(root, resolver)
    resolver.version = "2"
    lock(root, resolver, upgrade=True)
    assert pins(root, "base") == {"libc6": "2", "python3": "2"}


def test_changed_root_settings_make_apt_lock_stale(root):
    lock(root, Resolver())
    assert find_stale_apt(BASE, LockDrafts(root), TARGET) is None
    other = AptList(file=BASE.file, suite="bookworm", variant="minbase")
    assert "older" in find_stale_apt(other, LockDrafts(root), TARGET).what
    assert find_stale_apt(BASE, LockDrafts(root), Target(python="3.13", glibc="2.41", arch="aarch64"))


def test_a_missing_list_is_named(tmp_path):
    with pytest.raises(DefinitionError, match=r"requirements/base\.apt"):
        lock(tmp_path, Resolver())


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (
            ImageContents(system="Alpine Linux v3.20", id="alpine", manager="apk"),
            "Alpine Linux v3.20, which is neither",
        ),
        (ImageContents(), "a system that does not say what it is, which is neither Debian nor Ubuntu"),
        (ImageContents(system="Distroless", id="debian", packages={"libc6": "2"}), "Distroless, which has no apt"),
    ],
    ids=["Alpine", "unknown", "distroless"],
)
def test_image_into_which_apt_does_not_install_is_one_clear_error(root, contents, message):
    name = "registry.test/x:1"
    digest = Digest("a" * 64)
    image = LockedImage(
        name=name, digest=digest, locked="now", platforms={"linux/amd64": digest}, contents={"amd64": contents}
    )
    (root / IMAGES_LOCK).write_text(render_images_lock({name: image}))
    request = LockRequest(root=root, target=TARGET, apt=(AptList(file=BASE.file, image=name),))
    with pytest.raises(DefinitionError, match=f"base.apt: {name} is {message}") as caught:
        lock_apt(request, LockDrafts(root), Resolver(), ignore_event, upgrade=False)
    assert "network = true" in caught.value.hint


def test_list_on_an_image_of_debian_is_resolved_for_that_image(root):
    name, digest = "registry.test/x:1", Digest("a" * 64)
    contents = {"amd64": ImageContents(id="ubuntu", packages={"apt": "2"})}
    platforms = {"linux/amd64": digest}
    image = LockedImage(name=name, digest=digest, locked="now", platforms=platforms, contents=contents)
    (root / IMAGES_LOCK).write_text(render_images_lock({name: image}))
    asked = []

    def resolver(request, pinned):
        asked.append((request.suite, pinned))
        return (AptPin(name="jq", version="1"),)

    drafts = LockDrafts(root)
    request = LockRequest(root=root, target=TARGET, apt=(AptList(file=BASE.file, image=name),))
    lock_apt(request, drafts, resolver, ignore_event, upgrade=False)
    assert asked == [(name, image.pinned("amd64"))]
    assert "\njq=1\n" in drafts.get(f"{BASE.file}.lock")
