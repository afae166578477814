"""Runs steps and compilers in containers, and imports the images that containers start from.

All of this goes through buildah, skopeo or mmdebstrap. Images that only serve to start containers are tagged by their
key (``localhost/NAME/STAGE:root-KEY``), so that concurrent builds never move each other's tags.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from functools import partial
from importlib.resources import files
from pathlib import Path

from buildkit.build.assemble import assemble
from buildkit.build.builder_advice import advise_builder
from buildkit.build.context import BuildContext
from buildkit.build.deliver import import_image
from buildkit.build.delivery import deliver
from buildkit.build.interpreter_check import check_builder, check_interpreter, check_release
from buildkit.build.layer_export import export_layers
from buildkit.build.layer_writer import LayerWriter
from buildkit.build.mount_tree import EPOCH, lay_out
from buildkit.build.root_references import base_ref, root_ref, whole_ref
from buildkit.build.secret_sources import SecretSources
from buildkit.build.step_secrets import PLACE, SecretKeptError, Secrets, get_secrets
from buildkit.declare.stage import Config, Run
from buildkit.digest import FileHash, canonical_json
from buildkit.errors import BuildError, LostError, MismatchError, ToolError, describe_full_disk
from buildkit.events import Note, StepPhase
from buildkit.layers.tar.contents import Listing
from buildkit.layers.tar.member import Compression, PackedLayer
from buildkit.layers.wheel.bytecode import Compiler, worker_argv
from buildkit.oci.blob import LayerResult
from buildkit.oci.image import Image
from buildkit.oci.run_config import read_run_config
from buildkit.plan.compose import Composition
from buildkit.plan.roots import find_apt_pins
from buildkit.plan.spec import BuildContainerfile, Compile, MakeRoot, PullImage, RunStep, Spec, arch_of
from buildkit.tasks.scheduler import Outcome
from buildkit.tools import buildah
from buildkit.tools.isolation import Isolation

_NO_IMAGE = "image not known"  # in buildah's output


class ContainerRunner:
    """Runs the containers of one build."""

    def __init__(self, context: BuildContext, writer: LayerWriter, stack: ExitStack) -> None:
        self._context = context
        self._writer = writer
        self._stack = stack
        self._note = context.blobs.leases.hold
        self._unsaid = threading.Lock()
        self._compiler: Compiler | None = None
        self._compression = Compression(context.project.compression)

    def make_root(self, name: str, work: MakeRoot, python: Spec | None = None) -> PackedLayer:
        """Make a Debian root and keep it, normalised, as a blob; ``name`` is the step's.

        ``python`` is a root of this machine's processor with the same Python, if this machine cannot run this one's.
        """
        from buildkit.build.native_python import lay_out_python
        from buildkit.build.root_folders import root_folder  # few builds make a root
        from buildkit.layers.root.pack import RootRules, pack_root
        from buildkit.tools.mmdebstrap import RootSpec, Workplace, stream_root

        debian, context = work.debian, self._context
        progress = context.progress(name)

        def say(phase: str) -> None:
            context.emit(StepPhase(step=name, phase=phase))

        asked = RootSpec(
            suite=debian.suite,
            arch=work.arch,
            pins=work.pins,
            variant=debian.variant,
            components=debian.components,
            sources=work.sources,
            bytecode=context.project.bytecode,
        )
        rules = RootRules(exclude=debian.exclude, users=debian.users, drop_setuid=debian.drop_setuid, pins=work.pins)
        with (
            root_folder(context.blobs.leases) as folder,
            self._writer.open(self._compression, foreign_owners=True) as to,
        ):
            if python is not None:
                asked = replace(asked, python=folder.path / "python")
                lay_out_python(context, python, folder.path / "python")
            place = Workplace(folder=folder.path, inherits=(folder.handle,), say=say)
            with closing(stream_root(asked, place)) as chunks:
                return to.keep(pack_root(_counted(chunks, progress), rules, to.blob, to.compression, to.tee))

    def pull(self, spec: Spec, work: PullImage) -> tuple[LayerResult, Listing | None]:
        """Fetch a registry's image as blobs."""
        from buildkit.build.root_contents import RootContents
        from buildkit.oci.reference import parse_ref
        from buildkit.remote.image_pull import LayerReaders, pull_image
        from buildkit.tools.arriving_files import ArrivingFiles
        from buildkit.tools.registry import RegistryClient

        context, contents, opened = self._context, RootContents(), self._writer.open_tree_of(spec)
        readers = LayerReaders(tree=opened, read=contents.read)
        registries, repository = RegistryClient(context.stop), parse_ref(work.image.ref, spec.name).repository

        def fetch(ref: str, folder: Path, arch: str, arriving: ArrivingFiles) -> None:
            registries.fetch(parse_ref(ref, spec.name), folder, arch=arch, arriving=arriving)

        result = pull_image(work.image, work.arch, fetch, context.blobs, readers)
        context.ledger.remote_blobs.add(repository, (blob.digest for blob in result.blobs))  # a push mounts them
        return result, contents.keep(context.ledger, [blob.digest for blob in result.blobs])

    def build(self, spec: Spec, work: BuildContainerfile) -> tuple[LayerResult, None]:
        """Build a Containerfile on images that this build imported, and keep what it adds as blobs."""
        from buildkit.build.containerfile_root import build_containerfile  # few roots are made so
        from buildkit.tools.buildah_build import read_config

        context, below = self._context, (work.below,) if work.below else ()
        refs = {written: base_ref(context.project, image) for written, image in work.images}
        ref, secrets = build_containerfile(context, spec, work, refs, self._find_isolation())
        try:
            config = read_run_config(read_config(ref))
            blobs = export_layers(context, self._writer, ref, below, secrets.watch(spec.name))
        finally:
            buildah.remove_image(ref)
        return LayerResult(blobs=blobs, config=canonical_json(config)), None

    def run_step(self, spec: Spec, work: RunStep) -> tuple[LayerResult, None]:
        """Run a command in the root below, and keep its changes as a blob, whose listing is not known."""
        context = self._context
        with ExitStack() as stack:
            folder = stack.enter_context(context.blobs.working_folder())
            mounts = tuple(
                (lay_out(context.project.folder, tree, folder / str(n)), to) for n, (tree, to) in enumerate(work.mounts)
            )
            container = self._start(stack, self._root_ref(work.chain))
            secrets = self._run(container, spec, work.run, mounts)
            with context.meter.phase("commit"):
                image = buildah.commit(container, self._root_ref((*work.chain, spec)), folder)
                try:
                    (blob,) = export_layers(context, self._writer, image, work.chain, secrets.watch(spec.name))
                except SecretKeptError:
                    buildah.remove_image(image)
                    raise
                if context.image_store is not None:  # the next step starts from the tree; this would hide it
                    buildah.remove_image(image)
        return LayerResult(blobs=(blob,)), None

    def _run(self, container: buildah.WorkingContainer, spec: Spec, run: Run, mounts: buildah.Mounts) -> Secrets:
        """Run a step's command with its secrets, and return them."""
        isolation = self._find_isolation()
        if run.secrets and not isolation.is_private:
            raise BuildError(
                f"{spec.name}: this step has secrets, and other commands could read them: {isolation.shared}",
                hint="install crun or runc, or let this user run: unshare --mount --pid --ipc; see nox -s doctor",
            )
        with ExitStack() as stack:
            context = self._context
            sources = SecretSources(folder=context.project.folder, given=dict(context.secrets), env=os.environ)
            secrets = get_secrets(spec.name, run.secrets, sources)
            try:
                if run.secrets:
                    stack.enter_context(buildah.mounted_secrets_folder(container))
                    mounts = (*mounts, (stack.enter_context(secrets.laid_out()), PLACE))
                buildah.run_in(container, run.command, env=dict(run.env), network=run.network, mounts=mounts)
            except ToolError as error:
                raise_if_known(run, error)
                hint = "" if run.network else "a step has no network unless it sets `network = true`"
                raise BuildError(
                    f"{spec.name}: {secrets.hide(error.message)}",
                    hint=error.hint or hint,
                    output=secrets.hide(error.output),
                ) from None  # a traceback would show the unredacted output
        return secrets

    def _find_isolation(self) -> Isolation:
        """Return how commands are isolated, and say it once a build."""
        isolation = buildah.find_isolation(self._note)
        if self._unsaid.acquire(blocking=False):
            self._context.emit(Note(text=f"steps run with {isolation}", warning=not isolation.is_private))
        return isolation

    def ensure_image(self, chain: tuple[Spec, ...]) -> int:
        """Import a root into local storage under its own reference; return the bytes imported."""
        arch, results = arch_of(chain), self._context.state.results
        image = assemble(chain, Config(), results, arch, only_env=True)  # a step runs as root in /
        return self._ensure(image, self._root_ref(chain))

    def ensure_base(self, image: Spec) -> int:
        """Import an image of a registry as it is: the user and the folder of its config count in a Containerfile."""
        arch, results = self._context.project.target.deb_arch, self._context.state.results
        return self._ensure(assemble((image,), Config(), results, arch), base_ref(self._context.project, image))

    def ensure_composition(self, composition: Composition) -> int:
        """Import a whole stage into local storage, to run something in it as root; return the bytes imported.

        Only the environment of its config counts, as it does in the keys of the wheels that are compiled in it.
        """
        arch, config = self._context.project.target.deb_arch, Config(env=composition.config.env)
        image = assemble(composition.specs, config, self._context.state.results, arch, only_env=True)
        return self._ensure(image, self._whole_ref(composition))

    def compile_wheel(self, item: Compile, builder: Composition) -> Outcome:
        """Compile a wheel from an sdist or a tree with pip in the builder, without network."""
        context, began = self._context, time.monotonic()
        with context.blobs.building(item.key, context.stop.is_set):
            if context.files.find_wheel(item.key) is not None:
                return Outcome(note="built by another build")
            file, data = self._compile(item, builder)
            sha256 = self._keep_wheel(file, data, item.artifact.name)
            context.ledger.wheels.add(item.key, item.recipe, file, sha256, time.monotonic() - began)
        return Outcome(size=len(data), note=file)

    def _compile(self, item: Compile, builder: Composition) -> tuple[str, bytes]:
        """Return the wheel's file name and bytes."""
        context, artifact = self._context, item.artifact
        check_builder(context, builder)
        self._find_isolation()
        with ExitStack() as stack:
            folder = stack.enter_context(context.blobs.working_folder())
            source = folder / "source" / (artifact.file or artifact.name)  # a package may be named as the pipes are
            source.parent.mkdir()
            if item.tree is not None:
                lay_out(context.project.folder, item.tree, source)
            else:
                assert artifact.sha256 is not None  # noqa: S101 - an sdist is pinned
                shutil.copyfile(context.files.get_file(source.name, artifact.sha256, artifact.file), source)
            container = self._start(stack, self._whole_ref(builder))
            python = f"{context.project.target.prefix}/bin/python"
            script = (files("buildkit.build") / "wheel_script.py").read_text("utf-8")
            inside = artifact.git.subdirectory if artifact.git else ""
            argv = (python, "-I", "-c", script, f"/mnt/source/{source.name}", inside, *buildah.PIPES)
            env = {"SOURCE_DATE_EPOCH": str(EPOCH), "PYTHONHASHSEED": "0", "HOME": "/tmp"}  # noqa: S108 - in the container
            if artifact.git and artifact.version:  # setuptools-scm, hatch-vcs, PDM: there is no repository to ask
                env |= dict.fromkeys(("SETUPTOOLS_SCM_PRETEND_VERSION", "PDM_BUILD_SCM_VERSION"), artifact.version)
            try:
                with buildah.open_stream(container, argv, folder, env=env) as (_, answer):
                    file, _, data = answer.read().partition(b"\n")
            except ToolError as error:
                full = describe_full_disk(error.output)
                raise BuildError(
                    f"{artifact.name} {artifact.version}: its wheel could not be compiled in {builder.stage.name}"
                    + (f": {full}" if full else ""),
                    hint=error.hint or advise_builder(error.output),
                    output=error.output,
                ) from error
        return file.decode("utf-8", "replace"), data

    @contextmanager
    def open_program(self, whole: Composition, argv: tuple[str, ...], folder: Path) -> Iterator[buildah.Pipes]:
        """Start a program in a container of a whole stage, without network; see `buildah.open_stream`."""
        self._find_isolation()
        with ExitStack() as stack:
            container = self._start(stack, self._whole_ref(whole))
            yield stack.enter_context(buildah.open_stream(container, argv, folder))

    def start_compiler(self, chain: tuple[Spec, ...]) -> Outcome:
        """Start the bytecode compiler of a root's interpreter; one process serves every layer of the build."""
        check_interpreter(self._context, chain)
        start, keeper = partial(self._open_compiler, chain), self._context.compilers
        self._compiler = start(self._stack) if keeper is None else keeper.get(self._root_ref(chain), start)
        check_release(self._compiler.tag, self._context.project.target, chain[0].name)
        return Outcome(note=self._compiler.tag)

    def _open_compiler(self, chain: tuple[Spec, ...], stack: ExitStack) -> Compiler:
        container = self._start(stack, self._root_ref(chain))
        folder = stack.enter_context(self._context.blobs.working_folder())
        argv = worker_argv(self._context.project.target.interpreter, *buildah.PIPES)
        stdin, stdout = stack.enter_context(buildah.open_stream(container, argv, folder))
        return stack.enter_context(Compiler(stdin, stdout))

    @property
    def compiler(self) -> Compiler:
        """The bytecode compiler, which a task has started."""
        assert self._compiler is not None  # noqa: S101 - callers wait for the task that starts it
        return self._compiler

    def _start(self, stack: ExitStack, ref: str) -> buildah.WorkingContainer:
        """Start a container of an image that this build imported; it is removed when ``stack`` ends.

        Raises LostError if the image was removed since, perhaps by a process that uses another cache and its own locks.
        """
        try:
            return stack.enter_context(buildah.working_container(ref, self._note))
        except ToolError as error:
            if _NO_IMAGE not in error.output:
                raise
            raise LostError(f"{ref} is gone from local storage", hint="build again", output=error.output) from error

    def _ensure(self, image: Image, ref: str) -> int:
        context = self._context
        return import_image(image, ref, context.layers) if context.image_store is None else deliver(image, ref, context)

    def _keep_wheel(self, file: str, data: bytes, name: str) -> FileHash:
        from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

        try:
            project = parse_wheel_filename(file)[0]
        except InvalidWheelFilename as error:
            raise BuildError(f"{name}: pip built `{file[:80]}`, which is not a wheel") from error
        if project != canonicalize_name(name):
            raise MismatchError(
                f"{name}: its source builds a wheel of `{project}`", hint="correct the name in its metadata"
            )
        sha256 = FileHash.of(data)
        with self._context.blobs.writing() as out:
            out.write(data)
            self._context.blobs.keep(out, self._context.blobs.file_path(sha256, file))
        return sha256

    def _root_ref(self, chain: tuple[Spec, ...]) -> str:
        return root_ref(self._context.project, chain)

    def _whole_ref(self, composition: Composition) -> str:
        return whole_ref(self._context.project, composition)


def raise_if_known(run: Run, error: ToolError) -> None:
    """Raise the error for what an archive did to an ``[apt]`` step, if that is why it failed.

    VersionsGoneError if it no longer has what the lock names, FetchError if it is down or has expired, MismatchError if
    its key is another. apt continues without an archive that is down, and then misses its packages.
    """
    from buildkit.tools.apt_output import find_failure, find_gone

    if find_apt_pins(run.command) is None:
        return
    if known := find_failure(error.output, run.name.removeprefix("apt ")) or find_gone(error.output):
        raise known from error


def _counted(chunks: Iterator[bytes], progress: Callable[[int], None]) -> Iterator[bytes]:
    done = 0
    for chunk in chunks:
        done += len(chunk)
        progress(done)
        yield chunk


@contextmanager
def open_containers(context: BuildContext, writer: LayerWriter) -> Iterator[ContainerRunner]:
    """Open containers for one build; all are removed at the end."""
    with ExitStack() as stack:
        yield ContainerRunner(context, writer, stack)
