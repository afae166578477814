"""Images of models that containers mount: how they are built with the images that mount them, delivered and checked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from buildkit.build.context import BuildContext
from buildkit.build.delivery import write_trees
from buildkit.declare.graph import MODELS, Graph
from buildkit.errors import BuildError
from buildkit.oci.image import MODELS as MODELS_KEY
from buildkit.oci.image import Image
from buildkit.oci.reference import Ref
from buildkit.tools import skopeo

if TYPE_CHECKING:
    from buildkit.running.mounts import ImageMount


def with_models(graph: Graph, names: Iterable[str]) -> tuple[str, ...]:
    """Return the stages to build: each after the one of the models that its containers mount."""
    return tuple(dict.fromkeys(one for name in names for one in (graph.models_stage(name), name) if one))


def name_models(ref: Ref) -> Ref:
    """Return the name under which the models go that belong to the image ``ref``."""
    return ref.tagged(f"{ref.tag}{MODELS}")


def deliver_models(image: Image, ref: str, context: BuildContext) -> int:
    """Make ``ref`` name an image of models that containers mount; return the bytes of trees that this has written.

    podman mounts no image of an additional image store ("called a write method on a read-only store"), but it does
    mount one whose top layer alone is in the user's own storage. That is the small one of the image's SBOM; all below
    stay where they are. Raises what `deliver` raises, and ToolError.
    """
    store, top = context.image_store, image.layers[-1].blob
    assert store is not None  # noqa: S101 - who imports does not deliver
    size = write_trees(image.layers, context)
    store.put_image(replace(image, layers=image.layers[:-1]), ())
    with context.blobs.working_folder() as folder:
        skopeo.write_layout(folder, image.docker_manifest(), image.config_blob())
        (folder / top.diff_id.hex).write_bytes(b"".join(context.layers.open_tar(top)))
        skopeo.copy_dir_to_storage(folder, ref)
    return size


def has_models(image: Image, context: BuildContext) -> bool:
    """Return whether nothing is lost of an image of models that local storage knows; true where images are imported."""
    store = context.image_store
    return store is None or all(store.has_tree(layer.blob.diff_id) for layer in image.layers[:-1])


def check_models(image: str, models: ImageMount | None) -> None:
    """Raise BuildError unless local storage has an image, and the models that belong to it."""
    if models is None:
        return
    hint = f"nox -s build-{models.stage.removesuffix(MODELS)}"
    own, mounted = (_key_of(name, hint) for name in (image, models.image))
    if not own or own != mounted:
        raise BuildError(f"{models.image} has other models than {image} was built for", hint=hint)


def _key_of(image: str, hint: str) -> str:
    from buildkit.tools import podman  # builds ask nothing of it

    config = podman.find_image_config(image)
    if config is None:
        raise BuildError(f"{image} is not in local storage", hint=hint)
    return str((config.get("config", {}).get("Labels") or {}).get(MODELS_KEY, ""))
