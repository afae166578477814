"""Opens images to inspect: a stage's from the cache, or any from local storage, a registry, a layout or an archive."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from buildkit.audit.config import parse_config
from buildkit.audit.entry_scripts import script_names
from buildkit.audit.read import LayerReader
from buildkit.audit.view import ImageOrigin, ImageView
from buildkit.build.assemble import assemble
from buildkit.build.context import BuildContext
from buildkit.build.deliver import find_stored
from buildkit.build.planner import Planner
from buildkit.errors import BuildError, DefinitionError
from buildkit.hostile_json import MalformedError
from buildkit.layers.tar.decompress import inflate
from buildkit.layers.tar.member import MAGIC_SIZE, Compression
from buildkit.oci.image import Image
from buildkit.oci.manifest import parse_manifest
from buildkit.oci.reference import parse_ref
from buildkit.plan.compose import Composition
from buildkit.plan.spec import MakeRoot, PullImage
from buildkit.tools.registry import RegistryClient
from buildkit.tools.skopeo import TRANSPORTS, copy_to_dir

_DOCKER = "docker://"


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundLayer:
    """A layer: the digest of its blob, and a function that opens its tar.

    The function raises BuildError for a missing layer; reading raises ValueError for a damaged one.
    """

    digest: str
    open_tar: Callable[[], Iterator[bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundImage:
    """An image whose bytes are on this host: its name, config and layers, lowest first.

    ``stored`` is its reference in local storage; empty if it is not there, or was not looked up.
    """

    name: str
    config: bytes
    layers: tuple[FoundLayer, ...]
    origin: ImageOrigin
    stored: str = ""


@contextmanager
def open_image(planner: Planner, target: str) -> Iterator[FoundImage]:
    """Open a stage's image, or the image of a reference; copies made for that are removed at the end.

    A reference is one of local storage, ``REGISTRY/NAME[:TAG][@DIGEST]``, or starts with one of skopeo's transports.
    Raises DefinitionError for a malformed reference, and BuildError if it names nothing, or no image.
    """
    if target in planner.graph.stages:
        with _open_stage(planner, target) as image:
            yield image
        return
    with planner.context.blobs.working_folder() as folder:
        stored = _fetch(planner, target, folder)
        yield read_layout(folder, target, ImageOrigin(tag="" if stored else _tag_of(target)), stored)


def read_view(image: FoundImage, context: BuildContext) -> ImageView:
    """Read each layer of an image once, from the lowest; raises BuildError for a damaged one."""
    config = parse_config(image.config, image.name)
    reader, done = LayerReader(scripts=script_names(config)), 0
    progress = context.progress(image.name)
    layers = []
    for number, layer in enumerate(image.layers):
        view = reader.read(layer.open_tar(), layer.digest, number)
        done += view.unpacked
        progress(done)
        layers.append(view)
    return ImageView(name=image.name, config=config, layers=tuple(layers), origin=image.origin)


def _open_file(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            compression = Compression.detect(file.read(MAGIC_SIZE))
    except FileNotFoundError:
        raise BuildError(f"the layer {path.name} is missing") from None
    return inflate(path, compression)


def read_layout(folder: Path, name: str, origin: ImageOrigin, stored: str = "") -> FoundImage:
    """Read the image of a ``dir:`` layout; raises BuildError for a malformed one."""
    try:
        manifest = parse_manifest((folder / "manifest.json").read_bytes())
        config = (folder / manifest.config.hex).read_bytes()
    except (MalformedError, FileNotFoundError) as error:
        reason = str(error) if isinstance(error, MalformedError) else type(error).__name__
        raise BuildError(f"{name}: not an image that can be read: {reason}") from error
    layers = tuple(
        FoundLayer(digest=str(digest), open_tar=partial(_open_file, folder / digest.hex))
        for digest, _ in manifest.layers
    )
    return FoundImage(name=name, config=config, layers=layers, origin=origin, stored=stored)


@contextmanager
def _open_stage(planner: Planner, stage: str) -> Iterator[FoundImage]:
    """Open a stage's image from the cache or, if that lacks a layer, from local storage if it has the same image."""
    context, composition = planner.context, planner.composer.compose(stage)
    hint = f"run: nox -s build-{stage}"
    results = context.ledger.layers.find(spec.key for spec in composition.specs)
    unknown = [spec.name for spec in composition.specs if spec.key not in results]
    if unknown:
        raise BuildError(f"`{stage}` is not built in its present state: {unknown[0]} is missing", hint=hint)
    arch, ref = context.project.target.deb_arch, context.project.ref(stage)
    image = assemble(composition.specs, composition.config, results, arch)
    origin = _origin(planner, stage, composition)
    in_storage = find_stored(ref)
    stored = ref if in_storage is not None and in_storage.manifest == image.docker_manifest() else ""
    if all(context.layers.has(layer.blob) for layer in image.layers):
        yield _cached(image, stage, origin, planner, stored)
        return
    if not stored:
        raise BuildError(
            f"`{stage}` is not available in its present state: the cache lacks some of its layers", hint=hint
        )
    with context.blobs.working_folder() as folder:
        copy_to_dir(f"containers-storage:{ref}", folder)
        yield read_layout(folder, stage, origin, stored)


def _cached(image: Image, stage: str, origin: ImageOrigin, planner: Planner, stored: str) -> FoundImage:
    opened = planner.context.layers.open_tar
    layers = tuple(
        FoundLayer(digest=str(layer.blob.digest), open_tar=partial(opened, layer.blob)) for layer in image.layers
    )
    return FoundImage(name=stage, config=image.config_blob(), layers=layers, origin=origin, stored=stored)


def _origin(planner: Planner, stage: str, composition: Composition) -> ImageOrigin:
    """Return how the root is pinned, and the images that this one includes, which it should not outgrow."""
    work = composition.root[0].work if composition.root else None
    pinned = work.ref if isinstance(work, PullImage) else ""
    if isinstance(work, MakeRoot):
        pinned = f"{work.debian.packages}.lock"
    definition = planner.graph.stages[stage]
    sizes = ((name, _size(planner, name)) for name in definition.include if planner.graph.stages[name].ships)
    peers = tuple((name, size) for name, size in sizes if size)
    gpu = planner.graph.resolve(stage).gpu
    return ImageOrigin(
        pinned=pinned, stage=stage, peers=peers, asks_for_gpu=gpu is not None, driver=gpu.driver if gpu else ""
    )


def _size(planner: Planner, stage: str) -> int:
    """Return the unpacked size of a stage's image; 0 if it is not known."""
    specs = planner.composer.compose(stage).specs
    results = planner.context.ledger.layers.find(spec.key for spec in specs)
    sizes = [blob.unpacked for spec in specs if spec.key in results for blob in results[spec.key].blobs]
    return sum(sizes) if all(spec.key in results for spec in specs) else 0


def _fetch(planner: Planner, target: str, folder: Path) -> str:
    """Copy an image into ``folder``; return its reference in local storage, empty if it is not from there."""
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
        stages = ", ".join(planner.graph.stages)
        hint = f"name a stage ({stages}), an image of local storage, REGISTRY/NAME[:TAG], or oci:FOLDER"
        raise DefinitionError(f"`{target[:200]}` is neither a stage nor an image", hint=hint) from error
    RegistryClient(planner.context.stop).fetch(ref if ref.tag or ref.digest else ref.tagged("latest"), folder)
    return ""


def _tag_of(target: str) -> str:
    """Return the requested name in a registry; tags of storage, layouts and archives mean nothing in a registry."""
    return "" if target.partition(":")[0] in TRANSPORTS else target.removeprefix(_DOCKER)
