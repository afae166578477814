"""Make apt locks from apt lists."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from buildkit.declare.target import Target
from buildkit.digest import FileHash
from buildkit.errors import DefinitionError, Problem
from buildkit.events import Emit, step
from buildkit.locks.apt_lists import AptList, find_sources, hash_inputs
from buildkit.locks.apt_lock import AptLock, apt_lock_path, parse_apt_list, parse_apt_lock, render_apt_lock
from buildkit.locks.freshness import check_fresh
from buildkit.locks.images_lock import IMAGES_LOCK, find_image
from buildkit.locks.pins import AptPin, PinnedImage
from buildkit.resolve.request import LockDrafts, LockRequest
from buildkit.tools.apt import AptResolveRequest

ResolveApt = Callable[[AptResolveRequest], tuple[AptPin, ...]]
Resolve = Callable[[AptResolveRequest, PinnedImage | None], tuple[AptPin, ...]]
ReadImage = Callable[[PinnedImage, str, Callable[[str], object]], Mapping[str, bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class AptResolver:
    """Resolves packages of a suite, or on top of an image of a registry, whose files ``read_image`` gives."""

    resolve: ResolveApt
    read_image: ReadImage

    def __call__(self, asked: AptResolveRequest, image: PinnedImage | None) -> tuple[AptPin, ...]:
        """Return what is installed; raises what resolving and reading raise."""
        if image is None:
            return self.resolve(asked)
        from buildkit.tools.apt_image import is_apt_file, resolve_on_image  # few lists are for an image

        return resolve_on_image(asked, self.read_image(image, asked.arch, is_apt_file))


def lock_apt(request: LockRequest, drafts: LockDrafts, resolver: Resolve, emit: Emit, *, upgrade: bool) -> None:
    """Decide every stale apt lock (with ``upgrade``, every one), the lowest first.

    Raises what ``resolver`` raises, and DefinitionError for an invalid list or a root that has no apt.
    """
    for apt_list in request.apt:
        if not upgrade and not find_stale_apt(apt_list, drafts, request.target):
            continue
        packages = parse_apt_list(drafts.get(apt_list.file), apt_list.file)
        target, arch = request.target, request.target.deb_arch
        kept, image = _base_pins(apt_list, drafts, target), _find_image(apt_list, drafts, arch)
        asked = AptResolveRequest(
            packages=packages,
            suite=apt_list.suite or apt_list.image,
            variant=apt_list.variant,
            arch=arch,
            components=apt_list.components,
            sources=find_sources(apt_list, drafts.read, arch),
            kept=kept,
            preferred=() if upgrade else _old_pins(apt_list, drafts, target),
            file=apt_list.file,
        )
        with step(emit, _name(apt_list, target), "lock"):
            resolved = resolver(asked, image)
        names = {pin.name for pin in kept}
        pins = tuple(pin for pin in resolved if pin.name not in names)
        text = render_apt_lock(AptLock(inputs=_inputs(apt_list, drafts, request.target), pins=pins))
        drafts.decide(apt_lock_path(apt_list.file, request.target.lock_arch), text)


def find_stale_apt(apt_list: AptList, drafts: LockDrafts, target: Target) -> Problem | None:
    """Return the problem of an apt list's lock, or None."""
    path = apt_lock_path(apt_list.file, target.lock_arch)
    text = drafts.read(path)
    if problem := check_fresh(path, text, _inputs(apt_list, drafts, target)):
        return problem
    try:
        parse_apt_lock(text or "", path)
    except DefinitionError as error:
        return error.problems[0]
    return None


def _inputs(apt_list: AptList, drafts: LockDrafts, target: Target) -> FileHash:
    return hash_inputs(apt_list, drafts.get(apt_list.file), drafts.read, target)


def _find_image(apt_list: AptList, drafts: LockDrafts, arch: str) -> PinnedImage | None:
    """Return the image that a list is for; raises DefinitionError for one that apt does not install into."""
    if not apt_list.image:
        return None
    image = find_image(apt_list.image, drafts.get(IMAGES_LOCK))
    contents = image.contents.get(arch) if image else None
    if image is None or contents is None:
        raise DefinitionError(f"{IMAGES_LOCK}: does not have {apt_list.image} for {arch}", hint="run: nox -s lock")
    if not contents.is_debian:
        system = contents.system or "a system that does not say what it is"
        lacks = "has no apt" if contents.id in ("debian", "ubuntu") else "is neither Debian nor Ubuntu"
        raise DefinitionError(
            f"{apt_list.file}: {apt_list.image} is {system}, which {lacks}",
            hint="use a [[run]] step with `network = true`, or another image",
        )
    return image.pinned(arch)


def _name(apt_list: AptList, target: Target) -> str:
    arch = f" for {target.arch}" if target.lock_arch else ""
    return f"lock {apt_list.file.rpartition('/')[2]}{arch}"


def _base_pins(apt_list: AptList, drafts: LockDrafts, target: Target) -> tuple[AptPin, ...]:
    locks = (apt_lock_path(file, target.lock_arch) for file in apt_list.base)
    return tuple(pin for lock in locks for pin in parse_apt_lock(drafts.get(lock), lock).pins)


def _old_pins(apt_list: AptList, drafts: LockDrafts, target: Target) -> tuple[AptPin, ...]:
    path = apt_lock_path(apt_list.file, target.lock_arch)
    try:
        return parse_apt_lock(drafts.read(path) or "", path).pins
    except DefinitionError:
        return ()
