"""Layers and config to an image; two layers that own one path are found here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from buildkit.cache.ledger import Ledger
from buildkit.declare.stage import Config
from buildkit.digest import Key, canonical_json
from buildkit.errors import CollisionError
from buildkit.oci.blob import Made
from buildkit.oci.image import Image, Layer
from buildkit.plan.compose import SYSTEM_PATH, Composition
from buildkit.plan.spec import Spec


def assemble(specs: Iterable[Spec], config: Config, made: Mapping[Key, Made], arch: str) -> Image:
    """The image of ``specs``, lowest first, all of which are made; ``arch`` in Debian's words.

    ``$PATH`` in the config's PATH stands for that of the registry's image below, or for Debian's own.
    """
    pairs = [(spec, made[spec.key]) for spec in specs]
    layers = tuple(Layer(blob=blob, history=spec.history) for spec, known in pairs for blob in known.blobs)
    env: dict[str, str] = {}
    for _, known in pairs:
        env |= {name: value for name, _, value in (line.partition("=") for line in known.env)}
    path = env.get("PATH", SYSTEM_PATH)
    env |= config.env
    if "PATH" in env:
        env["PATH"] = env["PATH"].replace("$PATH", path)
    return Image(layers=layers, config=replace(config, env=tuple(env.items())), arch=arch)


def check_collisions(composition: Composition, ledger: Ledger) -> None:
    """Layers above the root are disjoint, or agree; raises CollisionError naming both. A set is checked once."""
    keys = sorted(spec.key.hex for spec in composition.layers)
    checked = Key.of(canonical_json(keys).encode())
    if ledger.is_checked(checked):
        return
    owners: dict[str, tuple[str, str]] = {}
    for spec in composition.layers:
        for path, content in ledger.contents(spec.key):
            name, other = owners.setdefault(path, (spec.name, content))
            if other != content:
                raise _collision(f"/{path} is in the layers {name} and {spec.name} with different content")
    folders = _folders(owners)
    for path in sorted(folders.keys() & owners.keys()):
        raise _collision(f"/{path} is a file in {owners[path][0]}, and a folder in {folders[path]}")
    ledger.add_checked(checked)


def _folders(owners: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    """Folders above the paths, each with a layer that has something in it."""
    folders: dict[str, str] = {}
    for path, (name, _) in owners.items():
        folder = path.rpartition("/")[0]
        while folder and folder not in folders:
            folders[folder] = name
            folder = folder.rpartition("/")[0]
    return folders


def _collision(what: str) -> CollisionError:
    return CollisionError(what, hint="exclude one of the two packages, or give the files another target")
