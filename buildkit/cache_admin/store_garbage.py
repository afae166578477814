"""What the image store has that nobody needs: images without a name, and trees on which nothing stands.

An image with a name stays, whatever stages there are: it may be another project's, or one that a service starts. So do
all images and trees if the user's storage cannot be asked what it uses.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from buildkit.cache_admin.stored_images import is_base_image
from buildkit.digest import DiffId
from buildkit.errors import BuildError
from buildkit.events import Emit, Note
from buildkit.imagestore.image_records import StoreImage
from buildkit.imagestore.image_store import ImageStore
from buildkit.imagestore.layer_records import StoreLayer, find_below
from buildkit.imagestore.store_use import StoreUse, ask_store_use, holding_store_use

PREFIX = "trees/"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreGarbage:
    """``images`` that can be removed, ``names`` of others that can, and the paths of trees that are in use.

    ``distrusted`` are folders of trees that are damaged or were replaced.
    """

    images: tuple[StoreImage, ...] = ()
    names: tuple[str, ...] = ()
    used: frozenset[str] = frozenset()
    distrusted: tuple[str, ...] = ()


def list_trees(store: ImageStore | None) -> dict[str, int]:
    """Return the path of every tree, as inventories name it, with the bytes of its layer."""
    if store is None:
        return {}
    return {tree_path(tree): store.size_of(tree) for tree in store.trees.all() if store.has_tree(tree)}


def tree_path(diff_id: DiffId) -> str:
    """Return how inventories name a tree."""
    return f"{PREFIX}{diff_id.hex}"


def find_store_garbage(store: ImageStore, project: str, needed: Collection[str], emit: Emit) -> StoreGarbage:
    """Find what can be removed; ``needed`` are names of images that containers start from.

    If local storage cannot be asked, emit a warning, and take everything as used.
    """
    try:
        use = ask_store_use()
    except BuildError as error:
        emit(Note(text=f"the image store is left as it is: {error.in_a_line()}", warning=True))
        return StoreGarbage(used=frozenset(list_trees(store)))
    garbage = choose_store_garbage(store.images(), store.layers(), use, project, needed)
    return replace(garbage, distrusted=store.trees.find_distrusted())


def choose_store_garbage(
    images: Iterable[StoreImage],
    layers: Mapping[str, StoreLayer],
    use: StoreUse,
    project: str,
    needed: Collection[str],
) -> StoreGarbage:
    """Choose images without a name, or with none but those of unneeded base images; and tell which trees are in use."""
    removed: list[StoreImage] = []
    names: list[str] = []
    tops = [*use.layers]
    for image in images:
        unneeded = [name for name in image.names if is_base_image(name, project) and name not in needed]
        if len(unneeded) == len(image.names) and not use.needs(image):
            removed.append(image)
        else:
            names += unneeded
            tops.append(image.top_layer)
    used = {tree_path(layer.diff_id) for layer in find_below(layers, tops).values()}
    return StoreGarbage(images=tuple(removed), names=tuple(names), used=frozenset(used))


def remove_store_garbage(store: ImageStore, garbage: StoreGarbage, paths: Iterable[str]) -> None:
    """Remove images, names, chains that nothing needs, and the trees at ``paths``, except what is used by now.

    Raises ToolError, MissingTool, OSError.
    """
    with holding_store_use() as use, store.explaining():
        store.remove_names(garbage.names)
        images = {image.id for image in garbage.images if not use.needs(image)}
        store.remove(images, [DiffId(path.removeprefix(PREFIX)) for path in paths], use.layers)
        kept = {layer.diff_id for layer in store.layers().values()}
        store.trees.remove_distrusted(garbage.distrusted, kept, replaced=not use.images)
