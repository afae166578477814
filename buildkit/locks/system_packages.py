"""The Python packages that the images' own interpreter brings, where the virtual environment sees them.

They are those of the root image, as the lock of images lists them. They are not installed again, and what is locked
must fit them.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping

from buildkit.declare.graph import Graph
from buildkit.declare.target import Target
from buildkit.digest import FileHash, canonical_json
from buildkit.errors import DefinitionError, Problem
from buildkit.locks.images_lock import IMAGES_LOCK, find_image
from buildkit.locks.requirement_inputs import Read

RootImages = tuple[str, ...]
"""The images of several roots, by name; empty for one that is made of Debian's packages."""


def find_lock_images(graph: Graph) -> dict[str, RootImages]:
    """Return, by requirements lock, the images at the bottom of all stages whose image has its wheels."""
    found: dict[str, dict[str, None]] = {}
    for name in graph.stages:
        resolved = graph.resolve(name)
        if resolved.chain:
            for lock in (lock for part in resolved.parts for lock in part.wheels):
                found.setdefault(lock, {})[resolved.chain[0].image] = None
    return {lock: tuple(images) for lock, images in found.items()}


def find_system_packages(lock: str, images: RootImages, read: Read, target: Target) -> dict[str, str]:
    """Return the versions of the distributions that the interpreter has on every root of a lock, by name.

    ``read`` gives the text of the lock of images. Raises DefinitionError if roots differ, or one is not locked.
    """
    if not target.sees_system:
        return {}
    found = {image: _packages_of(image, read, target) for image in images}
    first, *others = found or [""]
    for other in others:
        if found[other] != found[first]:
            name = min(dict(found[first].items() ^ found[other].items()))
            which = " and ".join(_describe(image, found[image], name) for image in (first, other))
            what = f"its images stand on roots that differ: {which}"
            raise DefinitionError.of([Problem(file=lock, what=what, hint="give each root a lock of its own")])
    return found.get(first, {})


def hash_system(lock: str, graph: Graph, read: Read, target: Target) -> str:
    """Return the hash of the packages on which a lock stands; empty where wheels see none."""
    if not target.sees_system:
        return ""
    return hash_packages(find_system_packages(lock, find_lock_images(graph).get(lock, ()), read, target))


def hash_packages(packages: Mapping[str, str]) -> str:
    """Return the hash by which a lock names the packages that it stands on; empty for none."""
    return FileHash.of(canonical_json(dict(packages)).encode()).hex if packages else ""


def find_folders(target: Target) -> tuple[str, ...]:
    """Return the folders in which the interpreter looks for packages, the first first, without a slash before them.

    As site.py has it: Debian's Python looks below /usr/local as well, and its packages are for every release.
    """
    prefix = posixpath.dirname(posixpath.dirname(target.interpreter)).strip("/")
    prefixes = ("usr/local", prefix) if prefix == "usr" else (prefix,)
    own = tuple(
        posixpath.join(each, f"lib/python{target.minor}", folder)
        for each in prefixes
        for folder in ("site-packages", "dist-packages")
    )
    return (*own, "usr/lib/python3/dist-packages") if prefix == "usr" else own


def _packages_of(name: str, read: Read, target: Target) -> dict[str, str]:
    if not name:
        return {}
    image = find_image(name, read(IMAGES_LOCK))
    contents = image.contents.get(target.deb_arch) if image else None
    if contents is None:
        what = f"does not say what {name} holds on {target.deb_arch}"
        raise DefinitionError.of([Problem(file=IMAGES_LOCK, what=what, hint="run: nox -s lock")])
    packages: dict[str, str] = {}
    for folder in find_folders(target):
        packages = {**contents.python.get(folder, {}), **packages}
    return dict(sorted(packages.items()))


def _describe(image: str, packages: Mapping[str, str], name: str) -> str:
    return f"{image or 'Debian'} has {f'{name} {packages[name]}' if name in packages else f'no {name}'}"
