"""Layers and config to an image; two layers that own one path are found here."""

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
    specs: Iterable[Spec], config: Config, made: Mapping[Key, LayerResult], arch: str, *, most: int = MOST_LAYERS
) -> Image:
    """The image of ``specs``, lowest first, all of which are made; ``arch`` in Debian's words.

    ``$PATH`` in the config's PATH stands for that of the registry's image below, or for Debian's own. Raises
    DefinitionError where there are more than ``most`` layers: how many an image of a registry has is known by now.
    """
    pairs = [(spec, made[spec.key]) for spec in specs]
    layers = tuple(Layer(blob=blob, history=spec.history) for spec, known in pairs for blob in known.blobs)
    if len(layers) > most:
        raise _too_many(pairs, len(layers), most)
    env: dict[str, str] = {}
    for _, known in pairs:
        env |= {name: value for name, _, value in (line.partition("=") for line in known.env)}
    path = env.get("PATH", SYSTEM_PATH)
    env |= config.env
    if "PATH" in env:
        env["PATH"] = env["PATH"].replace("$PATH", path)
    return Image(layers=layers, config=replace(config, env=tuple(env.items())), arch=arch)


def _too_many(pairs: Iterable[tuple[Spec, LayerResult]], found: int, most: int) -> DefinitionError:
    brought = [f"{spec.name} brings {len(known.blobs)}" for spec, known in pairs if len(known.blobs) > 1]
    return DefinitionError(
        f"the image would have {found} layers, more than {most}" + "".join(f"; {said}" for said in brought),
        hint="start from an image of fewer layers, or raise `heavy`, or lower `bins`, in [tool.buildkit]",
    )


def check_collisions(composition: Composition, ledger: Ledger, blobs: Blobs, ask: Listing) -> None:
    """Layers above the root are disjoint, or agree; raises CollisionError naming both. A set is checked once.

    ``ask`` gives the listing of a layer that another machine has: it is wanted only where claims meet.
    """
    checked = set_key(composition)
    if ledger.collision_checks.has(checked):
        return
    met = find_overlaps(ledger.layers.path_prefixes(spec.key for spec in composition.layers))
    owners: dict[str, tuple[Spec, str]] = {}
    for spec in composition.layers:
        for path, content in _contents(spec.key, ledger, blobs, ask) if spec.key in met else ():
            first, other = owners.setdefault(path, (spec, content))
            if other != content:
                one, two = _name_owner(first, path, blobs), _name_owner(spec, path, blobs)
                raise _collision(f"/{path} is in {one} and in {two} with different content")
    folders = _folders(owners)
    for path in sorted(folders.keys() & owners.keys()):
        one, two = _name_owner(owners[path][0], path, blobs), _name_owner(folders[path], f"{path}/", blobs)
        raise _collision(f"/{path} is a file in {one}, and a folder in {two}")
    ledger.collision_checks.add(checked)


def _contents(key: Key, ledger: Ledger, blobs: Blobs, ask: Listing) -> list[tuple[str, str]]:
    known = ledger.layers.contents(key)
    if known is None:
        made = ledger.layers.find([key])[key].blobs
        here = all(blobs.has(blob.digest, blob.size) for blob in made)
        known = [pair for blob in made for pair in _read(blob, blobs)] if here else ask(key)
        ledger.layers.add_contents(key, known)
    return known


def _read(blob: Blob, blobs: Blobs) -> list[tuple[str, str]]:
    from buildkit.layers.tar.listing import read_listing

    return read_listing(blobs.path(blob.digest), blob.compression)


def set_key(composition: Composition) -> Key:
    """The key under which layers are known to be free of collisions, in whatever order."""
    return Key.of(canonical_json(sorted(spec.key.hex for spec in composition.layers)).encode())


def _folders(owners: Mapping[str, tuple[Spec, str]]) -> dict[str, Spec]:
    """Folders above the paths, each with a layer that has something in it."""
    folders: dict[str, Spec] = {}
    for path, (spec, _) in owners.items():
        folder = path.rpartition("/")[0]
        while folder and folder not in folders:
            folders[folder] = spec
            folder = folder.rpartition("/")[0]
    return folders


def _name_owner(spec: Spec, path: str, blobs: Blobs) -> str:
    """The wheel in a layer that holds ``path`` (a folder ends in a slash), if it is still in the cache; the layer."""
    import zipfile

    for wheel in spec.work.wheels if isinstance(spec.work, PackWheels) else ():
        if wheel.sha256 is None or not wheel.is_wheel:
            continue
        with suppress(OSError, zipfile.BadZipFile), zipfile.ZipFile(blobs.file_path(wheel.sha256, wheel.file)) as file:
            if any(_installs(member, path) for member in file.namelist()):
                return f"{wheel.name} {wheel.version} (layer {spec.name})"
    return f"the layer {spec.name}"


def _installs(member: str, path: str) -> bool:
    """Whether a wheel's member becomes ``path``, or comes to lie in it; ``NAME.data/SCHEME/`` is another folder."""
    _, data, rest = member.partition(".data/")
    name = rest.partition("/")[2] if data else member
    if not path.endswith("/"):
        return path.endswith(f"/{name}")
    parents = name.split("/")[:-1]
    return any(path.endswith("/" + "/".join(parents[:depth]) + "/") for depth in range(1, len(parents) + 1))


def _collision(what: str) -> CollisionError:
    return CollisionError(what, hint="exclude one of the two packages, or give the files another target")
