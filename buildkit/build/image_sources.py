"""Images to be looked into: a stage's from the cache, or any from local storage, a registry, a layout or an archive."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from buildkit.audit.config import parse_config
from buildkit.audit.read import LayerReader
from buildkit.audit.view import ImageOrigin, ImageView
from buildkit.build.assemble import assemble
from buildkit.build.context import BuildContext
from buildkit.build.deliver import find_stored
from buildkit.build.planner import Planner
from buildkit.digest import Digest
from buildkit.errors import BuildError, DefinitionError
from buildkit.layers.tar.decompress import inflate
from buildkit.layers.tar.member import MAGIC_SIZE, Compression
from buildkit.oci.image import Image
from buildkit.oci.reference import parse_ref
from buildkit.plan.compose import Composition
from buildkit.plan.spec import MakeRoot, PullImage
from buildkit.tools.registry import RegistryClient
from buildkit.tools.skopeo import TRANSPORTS, copy_to_dir

_DOCKER = "docker://"


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundLayer:
    """A layer's blob: digest, and the file that holds it."""

    digest: str
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundImage:
    """An image whose bytes are on this host: what it is called, its config, its layers, lowest first.

    ``stored`` is the name that local storage has it by, empty where it has not, or nobody has asked.
    """

    name: str
    config: bytes
    layers: tuple[FoundLayer, ...]
    origin: ImageOrigin
    stored: str = ""


@contextmanager
def open_image(planner: Planner, target: str) -> Iterator[FoundImage]:
    """A stage's image, or the one that a name means; what must be copied for it is gone at the end.

    Names are those of local storage, ``REGISTRY/NAME[:TAG][@DIGEST]``, or have skopeo's transport in front.
    Raises DefinitionError for what is no name, and BuildError for what is not there, or no image.
    """
    if target in planner.graph.stages:
        with _open_stage(planner, target) as found:
            yield found
        return
    with planner.context.blobs.working_folder() as folder:
        stored = _fetch(planner, target, folder)
        yield read_layout(folder, target, ImageOrigin(tag="" if stored else _tag_of(target)), stored)


def read_view(image: FoundImage, context: BuildContext) -> ImageView:
    """Read each layer of an image once, from the lowest; raises BuildError for one that is damaged."""
    reader, done = LayerReader(), 0
    progress = context.progress(image.name)
    layers = []
    for number, layer in enumerate(image.layers):
        view = reader.read(inflate(layer.path, find_compression(layer.path)), layer.digest, number)
        done += view.unpacked
        progress(done)
        layers.append(view)
    config = parse_config(image.config, image.name)
    return ImageView(name=image.name, config=config, layers=tuple(layers), origin=image.origin)


def find_compression(path: Path) -> Compression:
    """How a blob is stored, by its first bytes; raises BuildError for one that is not there."""
    try:
        with path.open("rb") as file:
            return Compression.detect(file.read(MAGIC_SIZE))
    except FileNotFoundError:
        raise BuildError(f"the layer {path.name} is not there") from None


def read_layout(folder: Path, name: str, origin: ImageOrigin, stored: str = "") -> FoundImage:
    """The image of a ``dir:`` layout; raises BuildError for what is none."""
    try:
        manifest = json.loads((folder / "manifest.json").read_bytes())
        config = (folder / Digest.parse(manifest["config"]["digest"]).hex).read_bytes()
        digests = [Digest.parse(layer["digest"]) for layer in manifest["layers"]]
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError, FileNotFoundError) as error:
        raise BuildError(f"{name}: not an image that can be read: {type(error).__name__}") from error
    layers = tuple(FoundLayer(digest=str(digest), path=folder / digest.hex) for digest in digests)
    return FoundImage(name=name, config=config, layers=layers, origin=origin, stored=stored)


@contextmanager
def _open_stage(planner: Planner, stage: str) -> Iterator[FoundImage]:
    """From the cache, and where that lacks a layer from local storage, if it has this very image."""
    context, composition = planner.context, planner.composer.compose(stage)
    hint = f"run: nox -s build-{stage}"
    made = context.ledger.layers.find(spec.key for spec in composition.specs)
    unknown = [spec.name for spec in composition.specs if spec.key not in made]
    if unknown:
        raise BuildError(f"`{stage}` is not built as it is now: {unknown[0]} is not here", hint=hint)
    arch, ref = context.project.target.deb_arch, context.project.ref(stage)
    image = assemble(composition.specs, composition.config, made, arch)
    origin = _origin(planner, stage, composition)
    known = find_stored(ref)
    stored = ref if known is not None and known.manifest == image.docker_manifest() else ""
    if all(context.blobs.has(layer.blob.digest, layer.blob.size) for layer in image.layers):
        yield _cached(image, stage, origin, planner, stored)
        return
    if not stored:
        raise BuildError(f"`{stage}` is not here as it is now: the cache lacks layers of it", hint=hint)
    with context.blobs.working_folder() as folder:
        copy_to_dir(f"containers-storage:{ref}", folder)
        yield read_layout(folder, stage, origin, stored)


def _cached(image: Image, stage: str, origin: ImageOrigin, planner: Planner, stored: str) -> FoundImage:
    blobs = planner.context.blobs
    layers = tuple(
        FoundLayer(digest=str(layer.blob.digest), path=blobs.path(layer.blob.digest)) for layer in image.layers
    )
    return FoundImage(name=stage, config=image.config_blob(), layers=layers, origin=origin, stored=stored)


def _origin(planner: Planner, stage: str, composition: Composition) -> ImageOrigin:
    """How the root is pinned, and the images that this one includes, which it should not outgrow."""
    work = composition.root[0].work if composition.root else None
    pinned = work.ref if isinstance(work, PullImage) else ""
    if isinstance(work, MakeRoot):
        pinned = f"{work.debian.packages}.lock"
    definition = planner.graph.stages[stage]
    sizes = ((name, _size(planner, name)) for name in definition.include if planner.graph.stages[name].ships)
    peers = tuple((name, size) for name, size in sizes if size)
    return ImageOrigin(pinned=pinned, stage=stage, peers=peers)


def _size(planner: Planner, stage: str) -> int:
    """Bytes of a stage's image unpacked; 0 where that is not known here."""
    specs = planner.composer.compose(stage).specs
    made = planner.context.ledger.layers.find(spec.key for spec in specs)
    known = [blob.unpacked for spec in specs if spec.key in made for blob in made[spec.key].blobs]
    return sum(known) if all(spec.key in made for spec in specs) else 0


def _fetch(planner: Planner, target: str, folder: Path) -> str:
    """Copy an image into ``folder``; returns the name that local storage has it by."""
    transport = target.partition(":")[0]
    if transport in TRANSPORTS:
        copy_to_dir(target, folder)
        return target.partition(":")[2] if transport == TRANSPORTS[0] else ""
    if not target.startswith(_DOCKER) and find_stored(target) is not None:
        copy_to_dir(f"{TRANSPORTS[0]}:{target}", folder)
        return target
    try:
        ref = parse_ref(target.removeprefix(_DOCKER), "the image")
    except DefinitionError as error:
        known = ", ".join(planner.graph.stages)
        hint = f"name a stage ({known}), an image of local storage, REGISTRY/NAME[:TAG], or oci:FOLDER"
        raise DefinitionError(f"`{target[:200]}` is no stage, and no image", hint=hint) from error
    RegistryClient(planner.context.stop).fetch(ref if ref.tag or ref.digest else ref.tagged("latest"), folder)
    return ""


def _tag_of(target: str) -> str:
    """The name in a registry that was asked for; storage, layouts and archives have tags for their own use."""
    return "" if target.partition(":")[0] in TRANSPORTS else target.removeprefix(_DOCKER)
