"""What the user's containers and own images need of the image store; only what they do not need may be removed.

buildah is asked for containers. That an image or a container of the user's own storage stands on a layer of ours (after
``podman tag``, ``podman build``, ``podman run``) no tool tells; the records of local storage do, which are read while
their lock is held, so that none can be added meanwhile (containers/storage: images.go, layers.go).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from buildkit.errors import ToolError
from buildkit.imagestore.image_records import StoreImage
from buildkit.imagestore.storage_lock import read_records, storage_held
from buildkit.tools import storage


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreUse:
    """Ids of images that containers were made from, and identifiers of layers that others stand on or refer to.

    ``names`` are those of images of the user's own storage.
    """

    images: frozenset[str]
    layers: frozenset[str]
    names: frozenset[str]

    def needs(self, image: StoreImage) -> bool:
        """Return whether something needs an image: a record of ``podman tag`` has not got a manifest of its own."""
        return image.id in self.images or image.top_layer in self.layers


@contextmanager
def holding_store_use() -> Iterator[StoreUse]:
    """Keep others from using more layers during the block, and tell what they use. Raises BuildError."""
    root, driver = storage.find_graph_root()
    containers = {container.image for container in storage.list_containers()}
    with _held(root, driver):
        images = _records(root, driver, "images")
        tops = {layer for image in images for layer in (image.get("layer"), *(image.get("mapped-layers") or ()))}
        parents = {layer.get("parent") for layer in _records(root, driver, "layers")}
        bases = {container.get("image") for container in _records(root, driver, "containers")}
        yield StoreUse(
            images=frozenset(image for image in containers | bases if image),
            layers=frozenset(layer for layer in tops | parents if layer),
            names=frozenset(name for image in images for name in image.get("names") or ()),
        )


def ask_store_use() -> StoreUse:
    """Return what is used now. Raises BuildError."""
    with holding_store_use() as use:
        return use


def find_borrowers(layers: Collection[str]) -> tuple[str, ...]:
    """Return what of the user's own storage stands on one of these layers, and has not got it itself: names, or ids.

    Without the layers of one image, podman lists none at all. Raises BuildError.
    """
    root, driver = storage.find_graph_root()
    with _held(root, driver):
        parents = {layer["id"]: layer.get("parent", "") for layer in _records(root, driver, "layers")}
        standing = [
            (name, top)
            for kind in ("images", "containers")
            for record in _records(root, driver, kind)
            for name in [(record.get("names") or [record["id"][:12]])[0]]
            for top in (record.get("layer", ""), *(record.get("mapped-layers") or ()))
        ]
    return tuple(sorted({name for name, top in standing if _first_missing(top, parents) in layers}))


def _first_missing(layer: str, parents: Mapping[str, str]) -> str:
    """Return the first layer at or below one that own storage has not got; empty if it has all."""
    while layer in parents:
        layer = parents[layer]
    return layer


@contextmanager
def _held(root: Path, driver: str) -> Iterator[None]:
    with ExitStack() as stack:
        for kind in ("images", "layers"):  # in the order in which podman locks them
            if (lock := root / f"{driver}-{kind}" / f"{kind}.lock").exists():
                stack.enter_context(storage_held(lock))
        yield


def _records(root: Path, driver: str, kind: str) -> list[dict[str, Any]]:
    folder = root / f"{driver}-{kind}"
    try:
        return [record for name in (kind, f"volatile-{kind}") for record in read_records(folder / f"{name}.json")]
    except (OSError, ValueError) as error:
        raise ToolError(f"local storage cannot be read: {folder}: {error}") from error
