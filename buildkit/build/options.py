"""The options of a build, and the remote cache that they and the settings name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from buildkit.errors import DefinitionError
from buildkit.lazy_dataclass import dataclass

if TYPE_CHECKING:
    from buildkit.build.compiler_keeper import CompilerKeeper
    from buildkit.build.context import BuildContext
    from buildkit.declare.project import Project
    from buildkit.oci.reference import Ref


class ModelChanges(StrEnum):
    """What a checkout does about a model of the repository that differs from its lock."""

    REPORT = "report"
    """Take the present file, and warn that a build would refuse it."""
    ACCEPT = "accept"
    """Take the present file, with a warning."""
    REFUSE = "refuse"
    """Raise DefinitionError; but a file that is missing keeps its key, because the build may not need its bytes."""
    FROZEN = "frozen"
    """Raise DefinitionError, for a missing file as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannerOptions:
    """What is planned otherwise than the project declares.

    ``models`` says what happens if a model of the repository differs from its lock. ``secrets`` are sources of steps'
    secrets by name, ``args`` values of build arguments. ``locks`` are texts of locks by path that count in place of
    those on disk. ``delivery`` is where images go, if it is not where environment and settings say. ``arch`` is the
    processor of the images; by default the host's, if the project has images for it. ``compilers`` keeps the bytecode
    compiler.
    """

    models: ModelChanges = ModelChanges.REPORT
    secrets: tuple[tuple[str, str], ...] = ()
    args: Sequence[tuple[str, str]] = ()
    locks: Mapping[str, str] | None = None
    delivery: str = ""
    arch: str = ""
    compilers: CompilerKeeper | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteCacheOptions:
    """Repositories of the remote cache; each overrides its setting in ``[tool.buildkit]``, and is empty by default."""

    cache: str = ""
    cache_write: str = ""
    cache_read_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """The options of a build; docs/delivery.md and docs/report.md describe them.

    ``compilers`` keeps the bytecode compiler for the next build of this process.
    """

    frozen: bool = False
    changed_models: bool = False
    secrets: tuple[tuple[str, str], ...] = ()
    args: tuple[tuple[str, str], ...] = ()
    no_import: bool = False
    delivery: str = ""
    json: Path | None = None
    summary: Path | None = None
    jobs: int = 2
    push: str = ""
    tags: tuple[str, ...] = ()
    share: RemoteCacheOptions = RemoteCacheOptions()
    timings: bool = False
    attest: bool = False
    sign_by: Path | None = None
    sign_keyless: bool = False
    sign_tags: bool = False
    arches: tuple[str, ...] = ()
    compilers: CompilerKeeper | None = None

    def choose_arches(self, project: Project) -> tuple[str, ...]:
        """Return the processors to build for: those that are asked for, else all for a push and one for local use.

        Raises DefinitionError for one that the project has no images for.
        """
        if "all" in self.arches or (self.push and not self.arches):
            return tuple(each.target.arch for each in project.of_each_arch())
        return tuple(project.of_arch(arch).target.arch for arch in self.arches) or (project.target.arch,)

    @property
    def attests(self) -> bool:
        """Whether statements about what is pushed are attached or signed."""
        return bool(self.attest or self.sign_by or self.sign_keyless)

    def model_changes(self, env: Mapping[str, str]) -> ModelChanges:
        """Return what a build does about changed models; raises DefinitionError if they are accepted in CI."""
        if not self.changed_models:
            return ModelChanges.FROZEN if self.frozen else ModelChanges.REFUSE
        if self.frozen or is_ci(env):
            why = "--frozen allows no model" if self.frozen else "CI builds no model"
            raise DefinitionError(
                f"--changed-models: {why} that differs from its lock",
                hint="run: nox -s lock, and commit the lock"
                + ("" if self.frozen else " (CI is set in the environment)"),
            )
        return ModelChanges.ACCEPT

    def targets(self, stage: str, *, several: bool) -> tuple[Ref, ...]:
        """Return the registry names to push a stage's image to; raises DefinitionError for a malformed one."""
        if not self.push:
            return ()
        from buildkit.oci.reference import parse_ref, parse_repository

        if several:
            whole = parse_repository(self.push, "--push of several stages")
            tags = (stage, *(f"{stage}-{tag}" for tag in self.tags))
            return tuple(_image_ref(whole.tagged(tag)) for tag in dict.fromkeys(tags))
        ref = parse_ref(self.push, "--push")
        if ref.digest:
            raise DefinitionError(
                f"--push: `{self.push}` names a digest", hint="a digest follows from the image: name a tag"
            )
        tags = (ref.tag or "latest", *self.tags)
        return tuple(_image_ref(ref.tagged(tag)) for tag in dict.fromkeys(tags))


def is_ci(env: Mapping[str, str]) -> bool:
    """Return whether this is a job of a CI system: all of them set ``CI``."""
    return env.get("CI", "").lower() not in ("", "0", "false")


def _image_ref(ref: Ref) -> Ref:
    from buildkit.remote.cache_record import is_cache_tag

    if is_cache_tag(ref.tag):
        raise DefinitionError(
            f"{ref}: tags with this prefix belong to the remote cache", hint="give the image another tag"
        )
    return ref


def open_remote_cache(context: BuildContext, options: RemoteCacheOptions) -> None:
    """Connect ``context`` to the remote caches of the options and the settings, if any.

    Raises DefinitionError for a malformed name.
    """
    project = context.project
    read = options.cache or project.cache
    write = options.cache_write or project.cache_write
    if not (read or write):
        return
    from buildkit.build.mount_sources import MountSources
    from buildkit.oci.reference import parse_repository
    from buildkit.remote.cache_client import CacheClient
    from buildkit.tools.registry import RegistryClient

    def open_cache(option: str, setting: str, key: str) -> CacheClient:
        origin = f"--{key}" if option else f"[tool.buildkit] {key}"
        ref = parse_repository(option or setting, origin)
        return CacheClient(ref, registries, project.target.lock_arch, MountSources(context, ref).find)

    registries = RegistryClient(context.stop)
    writes = open_cache(options.cache_write, project.cache_write, "cache-write") if write else None
    same = writes is not None and read in ("", write)
    reads = writes if same else open_cache(options.cache, project.cache, "cache")
    context.remote_cache.connect(reads, None if options.cache_read_only else writes)
