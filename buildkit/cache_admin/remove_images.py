"""Remove images from the image store by name or id; their layers stay until garbage is collected."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from buildkit.errors import BuildError, DefinitionError
from buildkit.imagestore.image_records import StoreImage
from buildkit.imagestore.store_folder import find_image_store
from buildkit.imagestore.store_use import holding_store_use

_ID = re.compile(r"(sha256:)?(?P<digits>[0-9a-f]{12,64})")


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovedImages:
    """Names that were removed, ids of images that were removed with their last name, and of those that had to stay.

    ``own`` are names that the user's own storage has, too: podman 5 copies all of an image with ``podman tag``.
    """

    names: tuple[str, ...]
    images: tuple[str, ...]
    kept: tuple[str, ...]
    own: tuple[str, ...]


def remove_stored_images(wanted: Sequence[str]) -> RemovedImages:
    """Remove names, and images with their last name or, with all names, by id.

    An image to which the user's own storage refers stays without a name, until garbage is collected. Nothing is removed
    unless all can be. Raises DefinitionError for one that is not in the store, BuildError for one that a container has,
    and if local storage cannot be asked.
    """
    store = find_image_store()
    images = store.images() if store else ()
    found = [_find(text, images) for text in wanted]
    names = {name for image, only in found for name in (image.names if only is None else (only,))}
    doomed = [image for image in dict.fromkeys(image for image, _ in found) if names.issuperset(image.names)]
    kept: list[StoreImage] = []
    own: set[str] = set()
    if store is not None:
        with holding_store_use() as use, store.explaining():
            for image in doomed:
                if image.id in use.images:
                    raise _in_use(image)
            kept = [image for image in doomed if use.needs(image)]
            own = names & use.names
            store.remove_names(names)
            store.remove([image.id for image in doomed if image not in kept], (), use.layers)
    return RemovedImages(
        names=tuple(sorted(names)),
        images=tuple(image.id for image in doomed if image not in kept),
        kept=tuple(image.id for image in kept),
        own=tuple(sorted(own)),
    )


def _find(text: str, images: Sequence[StoreImage]) -> tuple[StoreImage, str | None]:
    """Return the image that ``text`` means, with its name; None for the name if it is an id."""
    wanted = complete_name(text)
    for image in images:
        if wanted in image.names:
            return image, wanted
    by_id = _ID.fullmatch(text)
    matching = [image for image in images if by_id and image.id.startswith(by_id["digits"])]
    if len(matching) == 1:
        return matching[0], None
    names = [name for image in images for name in image.names]
    near = difflib.get_close_matches(wanted, names, 1)
    hint = (
        f"did you mean {near[0]}?" if near else "`nox -s cache -- du` lists the images; podman image rm removes others"
    )
    raise DefinitionError(f"the image store has no image {text}", hint=hint)


def complete_name(text: str) -> str:
    """Return a name as local storage has it: with ``localhost/`` and ``:latest`` where they were left out."""
    host, slash, _ = text.partition("/")
    is_host = slash and ("." in host or ":" in host or host == "localhost")
    whole = text if is_host else f"localhost/{text}"
    return whole if ":" in whole.rpartition("/")[2] or "@" in whole else f"{whole}:latest"


def _in_use(image: StoreImage) -> BuildError:
    name = image.names[0] if image.names else image.id[:12]
    return BuildError(
        f"a container uses {name}",
        hint=f"podman ps --all --external --filter ancestor={image.id[:12]} shows it, and podman rm NAME removes it",
    )
