"""The lock of images that stages name as roots (``requirements/images.lock``): what each name was when it was locked.

A build takes the digest alone. The digests of all platforms say which image each processor gets; for the target's, the
lock lists what the image holds, so that packages can be locked on top of it without asking for it again. A hash ties
that list to the digests that it was read of: a list that an edit or a merge has changed counts for nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field, replace
from functools import lru_cache
from typing import Any

from buildkit.declare.image_names import without_tag
from buildkit.declare.schema import format_value
from buildkit.declare.toml import parse_toml, render_toml
from buildkit.digest import Digest, FileHash, canonical_json
from buildkit.errors import DefinitionError, Problem
from buildkit.lazy_dataclass import dataclass
from buildkit.locks.pins import PinnedImage

IMAGES_LOCK = "requirements/images.lock"
_HINT = "run: nox -s lock"
_HEADER = "Made by `nox -s lock`: images of registries by digest, and what they hold."
_TEXTS = ("system", "id", "like", "version", "codename", "manager")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageContents:
    """What an image holds: its system (os-release(5)), and packages with versions.

    ``manager`` is what installed them: ``dpkg``, ``apk`` (Alpine's), or empty for one that is not read. A package of
    another processor has it in its name (``libc6:i386``). ``python`` are distributions by name, by their folder in the
    image, without a slash before it.
    """

    system: str = ""
    id: str = ""
    like: str = ""
    version: str = ""
    codename: str = ""
    manager: str = ""
    packages: Mapping[str, str] = field(default_factory=dict)
    python: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def is_debian(self) -> bool:
        """Whether apt installs packages in it: Debian, Ubuntu, and what is made of them."""
        return bool({self.id, *self.like.split()} & {"debian", "ubuntu"}) and "apt" in self.packages


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedImage:
    """A named image: digest (of the index, if it has one), time in UTC, digests by platform, contents by processor.

    A platform is ``OS/ARCHITECTURE[/VARIANT]`` in the words of the image specification. ``altered`` are the processors
    for which the lock has contents that were not read of these digests; ``contents`` is without them.
    """

    name: str
    digest: Digest
    locked: str
    platforms: Mapping[str, Digest]
    contents: Mapping[str, ImageContents]
    altered: tuple[str, ...] = ()

    def manifests(self, arch: str) -> tuple[Digest, ...]:
        """Return the digests of the images for Linux on a processor."""
        return tuple(
            digest for platform, digest in self.platforms.items() if platform.split("/")[:2] == ["linux", arch]
        )

    def find_gap(self, *arches: str) -> str:
        """Return what the lock lacks of the image for these processors; empty if it has all."""
        if self.altered:
            return f"what it holds on {', '.join(self.altered)} was not read of this digest"
        for arch in arches:
            if not self.manifests(arch):
                return f"the lock has no image for linux/{arch}"
            if arch not in self.contents:
                return f"the lock does not say what it holds on {arch}"
        return ""

    def pinned(self, arch: str) -> PinnedImage:
        """Return what is pulled for a processor."""
        bare, _, digest = self.name.partition("@")
        content = self.name if digest else f"{without_tag(bare)}@{self.digest}"
        inside = self.contents.get(arch, ImageContents())
        return PinnedImage(
            ref=f"{bare}@{self.digest}",
            pinned=content,
            manifests=self.manifests(arch),
            system=(inside.id, inside.codename),
        )


def pin_image(name: str, read: Callable[[str], str | None], arch: str) -> PinnedImage:
    """Return what the lock has for a name without a digest.

    Raises DefinitionError if it has none for ``arch``, or not what that one holds.
    """
    image = find_image(name, read(IMAGES_LOCK))
    if image is None:
        what = f"does not have {name}" if read(IMAGES_LOCK) is not None else "the lock is missing"
        raise DefinitionError.of([Problem(file=IMAGES_LOCK, what=what, hint=_HINT)])
    if not image.altered and not image.manifests(arch):
        what = f"{name} is not made for linux/{arch}; it is for {', '.join(image.platforms)}"
        raise DefinitionError.of([Problem(file=IMAGES_LOCK, what=what, hint="name another image in [root]")])
    if gap := image.find_gap(arch):
        raise DefinitionError.of([Problem(file=IMAGES_LOCK, what=f"{name}: {gap}", hint=_HINT)])
    return image.pinned(arch)


def find_image(name: str, text: str | None) -> LockedImage | None:
    """Return the entry of a name in the text of the lock; None if there is none."""
    return None if text is None else parse_images_lock(text).get(name)


@lru_cache(maxsize=2)  # each list and stage on an image asks for it
def parse_images_lock(text: str) -> Mapping[str, LockedImage]:
    """Parse the lock; return the images by name. Raises DefinitionError with every problem found."""
    entries, problems = parse_toml(text, IMAGES_LOCK, _HINT).get("image", []), list[Problem]()
    images: dict[str, LockedImage] = {}
    for number, entry in enumerate(entries if isinstance(entries, list) else [entries]):
        name = entry.get("name") if isinstance(entry, dict) else None
        try:
            image = _parse_image(entry)
            if image.name in images:
                raise ValueError("is listed twice")
        except KeyError as error:
            what = f"`{error.args[0]}` is missing"
        except (ValueError, TypeError, AttributeError) as error:
            what = str(error) if isinstance(error, ValueError) else "is not as `nox -s lock` writes it"
        else:
            images[image.name] = image
            continue
        key = f"image {format_value(name)}" if name else f"image[{number}]"
        problems.append(Problem(file=IMAGES_LOCK, key=key, what=what, hint=_HINT))
    if problems:
        raise DefinitionError.of(problems)
    return images


def render_images_lock(images: Mapping[str, LockedImage]) -> str:
    """Render the lock; equal images give equal bytes."""
    return render_toml({"image": [_image_table(images[name]) for name in sorted(images)]}, header=(_HEADER,))


def _image_table(image: LockedImage) -> dict[str, Any]:
    return {
        "name": image.name,
        "digest": str(image.digest),
        "locked": image.locked,
        "platforms": {platform: str(digest) for platform, digest in sorted(image.platforms.items())},
        "contents": {
            arch: {"sha256": _hash_contents(image, arch, contents).hex, **_contents_table(contents)}
            for arch, contents in sorted(image.contents.items())
        },
    }


def _hash_contents(image: LockedImage, arch: str, contents: ImageContents) -> FileHash:
    """Hash what an image holds on a processor, together with the digests that it was read of."""
    digests = [str(image.digest), *sorted(map(str, image.manifests(arch)))]
    return FileHash.of(canonical_json([digests, _contents_table(contents)]).encode())


def _contents_table(contents: ImageContents) -> dict[str, Any]:
    texts = {key: value for key in _TEXTS if (value := getattr(contents, key))}
    python = {folder: dict(sorted(found.items())) for folder, found in sorted(contents.python.items())}
    tables = {"packages": dict(sorted(contents.packages.items())), "python": python}
    return texts | {key: value for key, value in tables.items() if value}


def _parse_image(entry: dict[str, Any]) -> LockedImage:
    """Raise KeyError, ValueError, TypeError or AttributeError for what is not an image's table."""
    digest = Digest.parse(_text(entry["digest"]))
    name = _text(entry["name"])
    if name.partition("@")[2] not in ("", str(digest)):
        raise ValueError("has another digest than its name")
    platforms = {_text(platform): Digest.parse(_text(text)) for platform, text in entry["platforms"].items()}
    image = LockedImage(
        name=name, digest=digest, locked=_text(entry["locked"]), platforms=platforms, contents={}
    )  # fmt: skip
    contents, altered = dict[str, ImageContents](), list[str]()
    for arch, table in entry.get("contents", {}).items():
        found = _parse_contents(table)
        if table.get("sha256") == _hash_contents(image, arch, found).hex:
            contents[_text(arch)] = found
        else:
            altered.append(_text(arch))
    return replace(image, contents=contents, altered=tuple(sorted(altered)))


def _parse_contents(table: dict[str, Any]) -> ImageContents:
    python = {_text(folder): _texts(found) for folder, found in table.get("python", {}).items()}
    texts = {key: _text(table[key]) for key in _TEXTS if key in table}
    return ImageContents(**texts, packages=_texts(table.get("packages", {})), python=python)


def _texts(table: dict[str, Any]) -> dict[str, str]:
    return {key: _text(value) for key, value in table.items()}


def _text(value: object) -> str:
    if not isinstance(value, str) or not value or not value.isprintable():
        raise TypeError
    return value
