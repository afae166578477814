"""Assembles an image from layers and config, and finds paths that two layers own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace

from buildkit.declare.stage import Config
from buildkit.declare.target import SYSTEM_PATH
from buildkit.digest import Key, canonical_json
from buildkit.errors import CollisionError, DefinitionError
from buildkit.layers.path_prefixes import find_overlaps
from buildkit.oci.blob import Blob, LayerResult
from buildkit.oci.image import Image, Layer
from buildkit.plan.compose import Composition
from buildkit.plan.spec import PackWheels, Spec
from buildkit.store.blobs import Blobs
from buildkit.store.ledger import Ledger

Listing = Callable[[Key], list[tuple[str, str]]]

MOST_LAYERS = 127  # containerd refuses more


def assemble(
    specs: Iterable[Spec], config: Config, results: Mapping[Key, LayerResult], arch: str, *, most: int = MOST_LAYERS
) -> Image:
    """Return the image of ``specs``, lowest first; ``results`` has all their blobs. ``arch`` is Debian's name for it.

    ``$PATH`` in the config's PATH stands for the PATH of the registry's image below, or for Debian's own. Raises
    DefinitionError for more than ``most`` layers, which cannot be checked before a registry's image is known.
    """
    pairs = [(spec, results[spec.key]) for spec in specs]
    layers = tuple(Layer(blob=blob, history=spec.history) for spec, result in pairs for blob in result.blobs)
    if len(layers) > most:
        raise _too_many_layers(pairs, len(layers), most)
    env: dict[str, str] = {}
    for _, result in pairs:
        env |= {name: value for name, _, value in (line.partition("=") for line in result.env)}
    path = env.get("PATH", SYSTEM_PATH)
    env |= config.env
    if "PATH" in env:
        env["PATH"] = env["PATH"].replace("$PATH", path)
    return Image(layers=layers, config=replace(config, env=tuple(env.items())), arch=arch)


def _too_many_layers(pairs: Iterable[tuple[Spec, LayerResult]], count: int, most: int) -> DefinitionError:
    shares = [f"{spec.name} has {len(result.blobs)}" for spec, result in pairs if len(result.blobs) > 1]
    return DefinitionError(
        f"the image would have {count} layers, more than {most}" + "".join(f"; {share}" for share in shares),
        hint="start from an image of fewer layers, or raise `heavy`, or lower `bins`, in [tool.buildkit]",
    )


def check_collisions(composition: Composition, ledger: Ledger, blobs: Blobs, ask: Listing) -> None:
    """Raise CollisionError if two layers above the root own one path with different content; check each set once.

    ``ask`` returns the listing of a layer that only a remote cache has; it is called only if path prefixes overlap.
    """
    checked = set_key(composition)
    if ledger.collision_checks.has(checked):
        return
    overlapping = find_overlaps(ledger.layers.path_prefixes(spec.key for spec in composition.layers))
    owners: dict[str, tuple[Spec, str]] = {}
    for spec in composition.layers:
        for path, content in _contents(spec.key, ledger, blobs, ask) if spec.key in overlapping else ():
            first, other = owners.setdefault(path, (spec, content))
            if other != content:
                owner, rival = _name_owner(first, path, blobs), _name_owner(spec, path, blobs)
                raise _collision(f"/{path} is in {owner} and in {rival} with different content")
    folders = _folders(owners)
    for path in sorted(folders.keys() & owners.keys()):
        owner, rival = _name_owner(owners[path][0], path, blobs), _name_owner(folders[path], f"{path}/", blobs)
        raise _collision(f"/{path} is a file in {owner} and a folder in {rival}")
    ledger.collision_checks.add(checked)


def _contents(key: Key, ledger: Ledger, blobs: Blobs, ask: Listing) -> list[tuple[str, str]]:
    contents = ledger.layers.contents(key)
    if contents is None:
        own = ledger.layers.find([key])[key].blobs
        is_local = all(blobs.has(blob.digest, blob.size) for blob in own)
        contents = [pair for blob in own for pair in _read(blob, blobs)] if is_local else ask(key)
        ledger.layers.add_contents(key, contents)
    return contents


def _read(blob: Blob, blobs: Blobs) -> list[tuple[str, str]]:
    from buildkit.layers.tar.listing import read_listing

    return read_listing(blobs.path(blob.digest), blob.compression)


def set_key(composition: Composition) -> Key:
    """Return the key under which a set of layers, in any order, is recorded as free of collisions."""
    return Key.of(canonical_json(sorted(spec.key.hex for spec in composition.layers)).encode())


def _folders(owners: Mapping[str, tuple[Spec, str]]) -> dict[str, Spec]:
    """Return the folders above the paths, each with a layer that has a file in it."""
    folders: dict[str, Spec] = {}
    for path, (spec, _) in owners.items():
        folder = path.rpartition("/")[0]
        while folder and folder not in folders:
            folders[folder] = spec
            folder = folder.rpartition("/")[0]
    return folders


def _name_owner(spec: Spec, path: str, blobs: Blobs) -> str:
    """Name the wheel of a layer that installs ``path`` (a folder ends in a slash) if it is cached, else the layer."""
    import zipfile

    for wheel in spec.work.wheels if isinstance(spec.work, PackWheels) else ():
        if wheel.sha256 is None or not wheel.is_wheel:
            continue
        with suppress(OSError, zipfile.BadZipFile), zipfile.ZipFile(blobs.file_path(wheel.sha256, wheel.file)) as file:
            if any(_installs(member, path) for member in file.namelist()):
                return f"{wheel.name} {wheel.version} (layer {spec.name})"
    return f"the layer {spec.name}"


def _installs(member: str, path: str) -> bool:
    """Return whether a wheel's member is installed at ``path`` or in it; ``NAME.data/SCHEME/`` is not in its path."""
    _, data, rest = member.partition(".data/")
    name = rest.partition("/")[2] if data else member
    if not path.endswith("/"):
        return path.endswith(f"/{name}")
    parents = name.split("/")[:-1]
    return any(path.endswith("/" + "/".join(parents[:depth]) + "/") for depth in range(1, len(parents) + 1))


def _collision(what: str) -> CollisionError:
    return CollisionError(what, hint="exclude one of the two packages, or give the files another target")
