"""Plan entries to tasks: how each kind of layer comes to be, and what it waits for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from buildkit.declare.pins import Artifact, Model, ModelFile
from buildkit.digest import FileHash, Key
from buildkit.engine.boxes import Boxes
from buildkit.engine.fetch import Wanted
from buildkit.engine.scheduler import Lane, Outcome, Task
from buildkit.engine.shop import Shop
from buildkit.errors import MismatchError
from buildkit.layers.files import file_members
from buildkit.layers.member import Compression, Member, Packed
from buildkit.layers.models import forward_reader, model_members, open_from_paths, open_from_wheel, worth_compressing
from buildkit.layers.tar import write_layer
from buildkit.layers.wheels import layer_of_wheels, prefix_members
from buildkit.oci.blob import Blob, Made
from buildkit.plan.compose import Composer, Composition
from buildkit.plan.spec import (
    Compile,
    Kind,
    MakeRoot,
    PackFiles,
    PackModel,
    PackPrefix,
    PackWheels,
    PullImage,
    RunStep,
    Spec,
)

Write = Callable[[], Packed]
Contents = Sequence[tuple[str, str]]


class Realiser:
    """Collects tasks for specs; each layer, download and image once, whoever asks for it.

    ``lookup`` finds what is already made of keys (ledger and blobs agree); ``compiler`` and ``builder`` are asked
    for only where bytecode or a wheel must be compiled.
    """

    def __init__(
        self, shop: Shop, boxes: Boxes, lookup: Callable[[Iterable[Key]], Mapping[Key, Made]], composer: Composer
    ) -> None:
        self._shop = shop
        self._boxes = boxes
        self._lookup = lookup
        self._composer = composer
        self._compression = Compression(shop.project.compression)
        self.tasks: dict[str, Task] = {}

    def want(self, specs: Iterable[Spec]) -> tuple[str, ...]:
        """Add what makes ``specs``, or fetches what a shared cache has; returns the ids to wait for."""
        wanted, shop = list(specs), self._shop
        unknown = [spec for spec in wanted if spec.key not in shop.made]
        found = self._lookup([spec.key for spec in unknown])
        shop.made.update(found)
        shop.tally.found.update(found)  # made by another process since the plan was
        self._ask([spec for spec in unknown if spec.key not in found])
        return tuple(self._add(spec) for spec in wanted if spec.key not in shop.made or spec.key in shop.remote)

    def _ask(self, specs: Iterable[Spec]) -> None:
        """Take over what a shared cache has of layers that serve to build others."""
        for spec in specs:
            stage = spec.name.partition("/")[0]
            for key, entry in self._shop.sharing.ask(stage, [spec.key]).items():
                self._shop.made[key] = entry.made
                self._shop.remote.add(key)

    def _add(self, spec: Spec) -> str:
        name = f"layer:{spec.key.hex}"
        if name not in self.tasks:
            self.tasks[name] = self._pull(spec) if spec.key in self._shop.remote else self._task(spec)
        return name

    def _pull(self, spec: Spec) -> Task:
        """The blobs of a layer from a shared cache."""
        shop, key = self._shop, spec.key

        def action() -> Outcome:
            with shop.blobs.building(key, shop.stop.is_set):
                size = 0
                if not self._lookup([key]):
                    claims = shop.sharing.ask(spec.name, [key])[key].claims
                    size = shop.sharing.fetch(key, shop.blobs)
                    shop.ledger.add_shared(key, spec.kind, spec.name, spec.recipe, shop.made[key], claims)
                shop.remote.discard(key)
                shop.count(fetched=size)
                return Outcome(size=size)

        return Task(name=spec.name, phase="pull", lane=Lane.NET, action=action)

    def _task(self, spec: Spec) -> Task:
        work = spec.work
        match work:
            case MakeRoot():
                return self._packing(spec, "root", lambda: self._boxes.make_root(work, self._shop.progress(spec.name)))
            case PullImage():
                return self._simple(spec, "pull", Lane.NET, lambda: self._boxes.pull(work))
            case RunStep():
                below = self._want_image(work.chain)
                return self._simple(spec, "run", Lane.BOX, lambda: self._boxes.run_step(spec, work), below)
            case PackPrefix():
                target = self._shop.project.target
                return self._packing(spec, "pack", self._layer(spec, lambda: prefix_members(target)))
            case PackWheels():
                return self._wheels(spec, work)
            case PackModel():
                return self._model(spec, work)
            case PackFiles():
                return self._packing(spec, "pack", self._layer(spec, lambda: self._files(work)))

    # what each kind waits for

    def _wheels(self, spec: Spec, work: PackWheels) -> Task:
        shop = self._shop
        fetched = [self._fetch(artifact) for artifact in work.wheels if artifact.is_wheel]
        compiled = [self._compile(item) for item in work.compiled]
        bytecode = shop.project.bytecode
        compiler = self._want_compiler() if bytecode else ()
        by_name = {item.artifact.name: item for item in work.compiled}

        def members() -> Iterator[Member]:
            paths = [self._wheel_path(artifact, by_name.get(artifact.name)) for artifact in work.wheels]
            return layer_of_wheels(paths, shop.project.target, self._boxes.compiler if bytecode else None)

        needs = (*filter(None, [*fetched, *compiled]), *compiler)
        return self._packing(spec, "pack", self._layer(spec, members), needs, total=spec.weight)

    def _model(self, spec: Spec, work: PackModel) -> Task:
        model = work.model
        if model.wheel is not None:
            needs = [self._fetch(model.wheel)]
        elif model.source.startswith("https:"):
            needs = [self._fetch_model_file(model, file) for file in work.files]
        else:
            needs = []

        def write() -> Packed:
            opened = self._open_model(model)
            small = Model(name=model.name, version="", source="", license="", files=work.files)
            largest = max(work.files, key=lambda file: file.size)
            try:
                pays = worth_compressing(forward_reader(opened(largest)), largest.size)
                compression = self._compression if pays else Compression.NONE
                return self._write(spec, model_members(small, opened, work.target), compression)
            except MismatchError:
                self._check_downloads(model, work.files)  # if it is the cache's fault, this says so, and it is mended
                raise

        return self._packing(spec, "pack", write, tuple(filter(None, needs)), total=spec.weight)

    def _check_downloads(self, model: Model, files: Iterable[ModelFile]) -> None:
        if model.source.startswith("https:"):
            for file in files:
                self._shop.get_file(f"{model.name}: {file.path}", file.sha256, Path(file.path).name)

    def _open_model(self, model: Model) -> Callable[[ModelFile], Iterator[bytes]]:
        shop = self._shop
        if model.wheel is not None:
            return open_from_wheel(self._wheel_path(model.wheel, None))
        if model.source.startswith("https:"):
            return open_from_paths(lambda file: shop.blobs.file_path(file.sha256, Path(file.path).name))
        for file in model.files:
            if not (shop.project.folder / file.source).is_file():
                raise MismatchError(
                    f"{file.source}: this file of model `{model.name}` is missing",
                    hint="fetch it (git lfs pull?), or take the model out of the models file",
                )
        return open_from_paths(lambda file: shop.project.folder / file.source)

    def _files(self, work: PackFiles) -> Iterator[Member]:
        root = self._shop.project.folder / work.tree.path
        names = [("." if root.is_file() else f.path, f.executable, f.sha256) for f in work.tree.files]
        return file_members(root, names, work.copy.target)

    def _want_image(self, chain: tuple[Spec, ...]) -> tuple[str, ...]:
        """What puts a root into local storage, so that something can run in it."""
        return self._into_storage(chain[-1].name, chain[-1].key, chain, lambda: self._boxes.ensure_image(chain))

    def _want_whole(self, whole: Composition) -> tuple[str, ...]:
        """What puts a whole stage there."""
        return self._into_storage(
            whole.stage.name, whole.key, whole.specs, lambda: self._boxes.ensure_composition(whole)
        )

    def _into_storage(self, name: str, key: Key, specs: Iterable[Spec], ensure: Callable[[], int]) -> tuple[str, ...]:
        task = f"image:{key.hex}"
        if task not in self.tasks:
            needs = self.want(specs)
            self.tasks[task] = Task(
                name=f"{name} into storage",
                phase="import",
                lane=Lane.BOX,
                action=lambda: Outcome(size=ensure()),
                needs=needs,
            )
        return (task,)

    def _want_compiler(self) -> tuple[str, ...]:
        """What starts the bytecode compiler."""
        chain, name = self._composer.compiler, "compiler"
        if name not in self.tasks:
            needs = self._want_image(chain)
            self.tasks[name] = Task(
                name="bytecode compiler",
                phase="start",
                lane=Lane.BOX,
                action=lambda: self._boxes.start_compiler(chain),
                needs=needs,
            )
        return (name,)

    # fetching and compiling

    def _fetch(self, artifact: Artifact) -> str | None:
        assert artifact.sha256 is not None  # noqa: S101 - locks are checked
        path = self._shop.blobs.file_path(artifact.sha256, artifact.file)
        return self._fetching(
            f"{artifact.name} {artifact.version}".strip(),
            path,
            artifact.sha256,
            artifact.size,
            lambda progress: self._shop.fetcher.fetch(artifact, path, progress=progress),
        )

    def _fetch_model_file(self, model: Model, file: ModelFile) -> str | None:
        path = self._shop.blobs.file_path(file.sha256, Path(file.path).name)
        wanted = Wanted(what=f"{model.name}: {file.path}", sha256=file.sha256, size=file.size)
        return self._fetching(
            wanted.what,
            path,
            file.sha256,
            file.size,
            lambda progress: self._shop.fetcher.fetch_url(file.source, wanted, path, progress=progress),
        )

    def _fetching(
        self, step: str, path: Path, sha256: FileHash, size: int, fetch: Callable[[Callable[[int], None]], None]
    ) -> str | None:
        name = f"fetch:{path}"
        if path.exists():
            return None
        if name not in self.tasks:

            def action() -> Outcome:
                with self._shop.blobs.building(Key(sha256.hex), self._shop.stop.is_set):
                    if path.exists():
                        return Outcome(note="fetched by another build")
                    began = time.monotonic()
                    fetch(self._shop.progress(step))
                    found = path.stat().st_size
                    self._shop.count(fetched=found)
                    self._shop.ledger.add_download(sha256, path.name, found, time.monotonic() - began)
                    return Outcome(size=found)

            self.tasks[name] = Task(name=step, phase="fetch", lane=Lane.NET, action=action, total=size or None)
        return name

    def _compile(self, item: Compile) -> str | None:
        shop = self._shop
        if shop.find_wheel(item.key) is not None:
            return None
        name = f"compile:{item.key.hex}"
        if name not in self.tasks:
            builder: Composition = self._composer.builder
            needs = list(self._want_whole(builder))
            if item.artifact.sha256 is not None:
                needs += filter(None, [self._fetch(item.artifact)])
            self.tasks[name] = Task(
                name=f"{item.artifact.name} {item.artifact.version}".strip(),
                phase="compile",
                lane=Lane.BOX,
                action=lambda: self._boxes.compile_wheel(item, builder),
                needs=tuple(needs),
            )
        return name

    def _wheel_path(self, artifact: Artifact, compiled: Compile | None) -> Path:
        what = f"{artifact.name} {artifact.version}".strip()
        if compiled is None:
            assert artifact.sha256 is not None  # noqa: S101 - locks are checked
            return self._shop.get_file(what, artifact.sha256, artifact.file)
        found = self._shop.find_wheel(compiled.key)
        assert found is not None  # noqa: S101 - its task is done
        return self._shop.get_file(what, found[1], found[0])

    # writing

    def _layer(self, spec: Spec, members: Callable[[], Iterator[Member]]) -> Write:
        return lambda: self._write(spec, members(), self._compression)

    def _write(self, spec: Spec, members: Iterator[Member], compression: Compression) -> Packed:
        with self._shop.blobs.writing() as out:
            packed = write_layer(members, out, compression, progress=self._shop.progress(spec.name))
            self._shop.blobs.keep(out, self._shop.blobs.path(packed.digest))
        return packed

    def _packing(
        self, spec: Spec, phase: str, write: Write, needs: tuple[str, ...] = (), total: int | None = None
    ) -> Task:
        def make() -> tuple[Made, Contents]:
            packed = write()
            blob = Blob(
                digest=packed.digest,
                diff_id=packed.diff_id,
                size=packed.size,
                unpacked=packed.unpacked,
                compression=packed.compression,
            )
            owned: Contents = () if spec.kind is Kind.ROOT else packed.contents
            return Made(blobs=(blob,)), owned

        return self._simple(spec, phase, Lane.CPU, make, needs, total)

    def _simple(
        self,
        spec: Spec,
        phase: str,
        lane: Lane,
        make: Callable[[], tuple[Made, Contents]],
        needs: tuple[str, ...] = (),
        total: int | None = None,
    ) -> Task:
        def action() -> Outcome:
            with self._shop.blobs.building(spec.key, self._shop.stop.is_set):
                found = self._lookup([spec.key]).get(spec.key)
                if found is not None:  # another process was quicker
                    self._shop.made[spec.key] = found
                    self._shop.tally.found.add(spec.key)
                    return Outcome(note="made by another build")
                return self._record(spec, make)

        return Task(name=spec.name, phase=phase, lane=lane, action=action, needs=needs, total=total)

    def _record(self, spec: Spec, make: Callable[[], tuple[Made, Contents]]) -> Outcome:
        began = time.monotonic()
        made, owned = make()
        made = Made(blobs=made.blobs, env=made.env, seconds=time.monotonic() - began)
        self._shop.ledger.add(spec.key, spec.kind, spec.name, spec.recipe, made, owned)
        self._shop.made[spec.key] = made
        self._shop.fresh[spec.key] = spec
        size = sum(blob.size for blob in made.blobs)
        self._shop.count(built=size)
        return Outcome(size=size)
