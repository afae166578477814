"""Lock images that stages name as roots: what each name is now, for every platform, and what the image holds."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from buildkit.digest import Digest
from buildkit.errors import BuildkitError, DefinitionError, Problem, RegistryError
from buildkit.events import Emit, Note, step
from buildkit.locks.images_lock import (
    IMAGES_LOCK,
    LockedImage,
    parse_images_lock,
    render_images_lock,
)
from buildkit.oci.reference import Ref, parse_ref
from buildkit.resolve.image_roots import ImageRoots, NamedImage
from buildkit.resolve.request import LockDrafts, LockRequest, RootImage
from buildkit.tools.registry import RegistryClient
from buildkit.tools.registry_errors import RegistryTimeouts

_PATIENCE = RegistryTimeouts(look=10.0, waits=())


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLocker:
    """Decides the lock of images; ``find`` asks a registry, ``roots`` pulls and reads."""

    request: LockRequest
    drafts: LockDrafts
    find: Callable[[Ref], NamedImage | None]
    roots: Callable[[], ImageRoots]
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def lock(self, emit: Emit, *, upgrade: bool) -> None:
        """Decide what is missing or stale, with ``upgrade`` every image; raises DefinitionError and BuildError."""
        text = self.drafts.read(IMAGES_LOCK)
        if not self.request.root_images and text is None:
            return
        known, locked = self._known(text), dict[str, LockedImage]()
        for image in self.request.root_images:
            found = known.get(image.name)
            if found is None or upgrade or self._find_gap(found):
                with step(emit, f"lock {image.name}", "lock"):
                    found = self._lock(image, found, upgrade=upgrade)
            locked[image.name] = found
        self.drafts.decide(IMAGES_LOCK, render_images_lock(locked))

    def _known(self, text: str | None) -> Mapping[str, LockedImage]:
        try:
            return {} if text is None else parse_images_lock(text)
        except DefinitionError:
            return {}  # made anew

    def find_stale(self) -> tuple[Problem, ...]:
        """Return a problem for every image that the lock lacks, or a problem of the lock itself; asks no registry."""
        text = self.drafts.read(IMAGES_LOCK)
        if text is None:
            missing = Problem(file=IMAGES_LOCK, what="the lock is missing", hint="run: nox -s lock")
            return (missing,) if self.request.root_images else ()
        try:
            known = parse_images_lock(text)
        except DefinitionError as error:
            return error.problems
        gaps = ((image.name, self._find_gap(known.get(image.name))) for image in self.request.root_images)
        return tuple(
            Problem(file=IMAGES_LOCK, what=f"{name}: {gap}", hint="run: nox -s lock") for name, gap in gaps if gap
        )

    def _find_gap(self, known: LockedImage | None) -> str:
        return known.find_gap(*self._arches) if known else "the lock does not have it"

    @property
    def _arches(self) -> tuple[str, ...]:
        return tuple(each.target.deb_arch for each in self.request.of_each_arch())

    def _lock(self, image: RootImage, known: LockedImage | None, *, upgrade: bool) -> LockedImage:
        """Return what a name is; what is known of it stays, but for an upgrade, and what is lacking is added."""
        locked = self._resolve(image, known) if known is None or upgrade else self._confirm(image, known)
        contents = dict(locked.contents)
        for arch in self._arches:
            if not locked.manifests(arch):
                what = f"{image.name} is not made for linux/{arch}; it is for {', '.join(sorted(locked.platforms))}"
                hint = "name another image, set `arch` in [tool.buildkit], or run: nox -s lock -- --upgrade-images"
                raise _problem(image, what, hint)
            if arch not in contents:
                contents[arch] = self.roots().read_contents(locked.pinned(arch), arch)
        return replace(locked, contents=contents, altered=())

    def _resolve(self, image: RootImage, known: LockedImage | None) -> LockedImage:
        """Return what a name is now; the contents of one that has not moved are known."""
        found = self._find(image)
        if known and known.digest == found.digest:
            return replace(known, platforms=found.platforms)
        time = self.now().strftime("%Y-%m-%dT%H:%M:%SZ")
        return LockedImage(
            name=image.name, digest=found.digest, locked=time, platforms=found.platforms, contents={}
        )  # fmt: skip

    def _confirm(self, image: RootImage, known: LockedImage) -> LockedImage:
        """Return what is known of a name; where the lock was altered, the registry says the platforms of its digest."""
        return replace(known, platforms=self._find(image, known.digest).platforms) if known.altered else known

    def _find(self, image: RootImage, digest: Digest | None = None) -> NamedImage:
        """Return what the registry has for a name, or for a ``digest`` that the name had."""
        ref, what, hint = _ref_of(image), image.name, "check the name and the tag"
        if digest:
            ref = Ref(host=ref.host, path=ref.path, digest=digest)
            what, hint = str(ref), "to take what the name means now, run: nox -s lock -- --upgrade-images"
        try:
            found = self.find(ref)
        except RegistryError as error:
            if error.denied:
                hint = f"{error.hint}; registries also answer so for a name that they do not have"
                raise RegistryError(error.message, hint=hint, denied=True, down=error.down) from error
            raise
        if found is None:
            raise _problem(image, f"{ref.host} has no image {what}", hint)
        return found


def report_moved(request: LockRequest, emit: Emit) -> None:
    """Say which names stand for another image now. A lock is not stale for that, and a build is the same as before."""
    client = RegistryClient(threading.Event(), _PATIENCE)
    with suppress(DefinitionError):  # whoever checks the lock reports it
        known = parse_images_lock(LockDrafts(request.root).read(IMAGES_LOCK) or "")
        for image in request.root_images:
            if image.name in known and "@" not in image.name:
                _report_moved(image, known[image.name], client, emit)


def _report_moved(image: RootImage, known: LockedImage, client: RegistryClient, emit: Emit) -> None:
    try:
        now = client.digest(_ref_of(image))
    except BuildkitError as error:
        emit(Note(text=f"{image.name}: whether it has moved is not known: {error.message}"))
        return
    if now is None:
        emit(Note(text=f"{image.name}: its registry no longer has this name", warning=True))
    elif now != known.digest:
        moved = f"{image.name} has moved: sha256:{known.digest.short} → sha256:{now.short}"
        emit(Note(text=f"{moved}; to take it: nox -s lock -- --upgrade-images", warning=True))


def _ref_of(image: RootImage) -> Ref:
    ref = parse_ref(image.name, f"{image.file}: root.image")
    if ref.digest:
        return Ref(host=ref.host, path=ref.path, digest=ref.digest)
    return ref if ref.tag else ref.tagged("latest")


def _problem(image: RootImage, what: str, hint: str) -> DefinitionError:
    return DefinitionError.of([Problem(file=image.file, key=image.key, what=what, hint=hint)])
