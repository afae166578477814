"""Images of registries that roots start from: asked for, pulled into the cache, and read, without running anything."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from buildkit.declare.stage import Stage
from buildkit.digest import Digest
from buildkit.errors import BuildError
from buildkit.events import Emit
from buildkit.hostile_json import JsonValue, MalformedError, parse_json
from buildkit.layers.root.installed import InstalledPackages
from buildkit.layers.root.layered_files import LayeredFiles
from buildkit.locks.images_lock import ImageContents
from buildkit.locks.pins import PinnedImage
from buildkit.locks.requirements_txt import normalise_name
from buildkit.oci.manifest import parse_manifest, parse_manifest_json
from buildkit.oci.reference import Ref
from buildkit.plan.pulled_image import pull_spec
from buildkit.plan.spec import Spec
from buildkit.supply.licences import parse_metadata
from buildkit.tools.registry import RegistryClient

if TYPE_CHECKING:
    from buildkit.build.planner import Planner

_MOST_PLATFORMS = 1000
_LARGEST = 4 << 20
_NONE = "unknown/unknown"  # the platform of an attestation that lies in an index


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedImage:
    """What a registry has under a name now: the digest of the index, or of the one image, and those by platform."""

    digest: Digest
    platforms: Mapping[str, Digest]


def find_image_at(client: RegistryClient, ref: Ref) -> NamedImage | None:
    """Return what the registry has for a name; None if there is nothing.

    Raises RegistryError if it does not answer or refuses, BuildError if what it has is no image that can be read.
    """
    data = client.manifest(ref)
    if data is None:
        return None
    digest = Digest.of(data)
    bare = Ref(host=ref.host, path=ref.path, digest=digest)
    try:
        _refuse_first_schema(ref, data)
        manifest = parse_manifest_json(data)
        if listed := manifest.find("manifests"):
            pairs = ((_platform(entry.find("platform")), entry) for entry in listed.items(_MOST_PLATFORMS))
            platforms = {name: _digest(entry) for name, entry in pairs if name != _NONE}
        else:
            parse_manifest(data)
            platforms = {_platform(parse_json(client.config(bare), limit=_LARGEST, what="the config")): digest}
    except MalformedError as error:
        raise BuildError(f"{ref}: not an image that can be read: {error}") from error
    if not platforms:
        raise BuildError(f"{ref}: not an image that can be read: its index lists none with a platform")
    return NamedImage(digest=digest, platforms=platforms)


def _refuse_first_schema(ref: Ref, data: bytes) -> None:
    """Raise BuildError for a manifest of schema 1, which names no config and is signed in a way that nobody checks."""
    if parse_json(data, limit=_LARGEST, what="the manifest").raw_object().get("schemaVersion") == 1:
        raise BuildError(
            f"{ref}: its manifest is of schema 1, of Docker before 1.10, which is not read",
            hint=f"copy it in a newer format: skopeo copy --format v2s2 docker://{ref} docker://OTHER",
        )


def _platform(value: JsonValue | None) -> str:
    """Return ``OS/ARCHITECTURE[/VARIANT]`` of a platform or of a config."""
    if value is None:
        return _NONE
    variant = value.find("variant")
    words = [value.member("os").text(64), value.member("architecture").text(64), variant.text(64) if variant else ""]
    return "/".join(filter(None, words))


def _digest(entry: JsonValue) -> Digest:
    return entry.member("digest").parsed(Digest.parse, "a digest")


class ImageRoots:
    """The images of a project; what is pulled stays in the cache, for the build. Raises what a build raises."""

    def __init__(self, folder: Path, emit: Emit, stop: threading.Event) -> None:
        self._folder = folder
        self._emit = emit
        self._stop = stop
        self._stack = ExitStack()
        self._opened: Planner | None = None

    def close(self) -> None:
        """Close the cache."""
        self._stack.close()

    def read_contents(self, image: PinnedImage, arch: str) -> ImageContents:
        """Return what an image for a processor (in Debian's words) holds."""
        inside = InstalledPackages()
        self._read(image, arch, inside.add)
        return describe_contents(inside, arch)

    def read_files(self, image: PinnedImage, arch: str, wanted: Callable[[str], object]) -> dict[str, bytes]:
        """Return the files of an image whose paths, without a slash before them, are ``wanted``."""
        tree = LayeredFiles(wanted)
        self._read(image, arch, tree.add)
        return tree.read_all()

    def _read(self, image: PinnedImage, arch: str, read: Callable[[Iterator[bytes], str], object]) -> None:
        from buildkit.build.build_layers import build_layers  # only images of registries need a cache to be locked
        from buildkit.build.read_layers import read_layers

        planner = self._planner()
        spec = _spec_of(image, arch)
        build_layers(planner, [spec], 1)
        result = planner.lookup([spec.key])[spec.key]
        read_layers(planner.context.layers, result.blobs, read)

    def _planner(self) -> Planner:
        if self._opened is None:
            from buildkit.build.planner import open_planner

            self._opened = self._stack.enter_context(open_planner(self._folder, self._emit, stop=self._stop))
        return self._opened


def _spec_of(image: PinnedImage, arch: str) -> Spec:
    name = image.ref.partition("@")[0]
    return pull_spec(Stage(name=name, file="", summary=""), image, arch)


def describe_contents(inside: InstalledPackages, arch: str) -> ImageContents:
    """Return what was read as the lock lists it."""
    release = inside.release
    debs = {deb.name if deb.arch in (arch, "all", "") else f"{deb.name}:{deb.arch}": deb.version for deb in inside.debs}
    apks = {} if debs else inside.apks
    texts = {
        "system": release.get("PRETTY_NAME", ""),
        "id": release.get("ID", ""),
        "like": release.get("ID_LIKE", ""),
        "version": release.get("VERSION_ID", ""),
        "codename": release.get("VERSION_CODENAME", ""),
        "manager": "dpkg" if debs else "apk" if apks else "",
    }
    return ImageContents(
        **{key: _printable(text) for key, text in texts.items()},
        packages={_printable(name): _printable(version) for name, version in (debs or apks).items() if version},
        python=_find_python(inside.distributions),
    )


def _find_python(metadata: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return the versions of distributions by normalised name, by the folder that they are in."""
    found: dict[str, dict[str, str]] = {}
    for path, text in metadata.items():
        message = parse_metadata(text)
        name, version = (_printable(str(message.get(key, ""))) for key in ("Name", "Version"))
        info, _, last = path.rpartition("/")
        folder = info.rpartition("/")[0] if last in ("METADATA", "PKG-INFO") else info
        if name and version and folder.endswith(("/site-packages", "/dist-packages")):
            found.setdefault(_printable(folder), {})[normalise_name(name)] = version
    return found


def _printable(text: str) -> str:
    return "".join(letter for letter in text.strip() if letter.isprintable())
