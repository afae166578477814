"""What may stand after ``--``: options of builds, and of everything that may ask a shared cache."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from buildkit.errors import DefinitionError

if TYPE_CHECKING:
    from buildkit.build.context import BuildContext
    from buildkit.oci.reference import Ref


class Parser(argparse.ArgumentParser):
    """A parser of what stands after ``--``; raises DefinitionError."""

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong, with the usage as the hint."""
        raise DefinitionError(message, hint=" ".join(self.format_usage().split()))


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteCacheOptions:
    """Repositories of the shared cache, over the settings; empty for what the settings say."""

    cache: str = ""
    cache_write: str = ""
    cache_read_only: bool = False

    @classmethod
    def of(cls, options: argparse.Namespace) -> RemoteCacheOptions:
        """Those of a parsed command line."""
        return cls(cache=options.cache, cache_write=options.cache_write, cache_read_only=options.cache_read_only)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """What may stand after ``--`` of a build."""

    frozen: bool = False
    no_import: bool = False
    json: Path | None = None
    summary: Path | None = None
    jobs: int = 2
    push: str = ""
    tags: tuple[str, ...] = ()
    share: RemoteCacheOptions = RemoteCacheOptions()
    timings: bool = False
    attest: bool = False
    sign_by: Path | None = None

    def targets(self, stage: str, *, several: bool) -> tuple[Ref, ...]:
        """The names in registries that a stage's image gets; raises DefinitionError."""
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


def _image_ref(ref: Ref) -> Ref:
    from buildkit.remote.cache_record import is_cache_tag

    if is_cache_tag(ref.tag):
        raise DefinitionError(
            f"{ref}: tags that begin like this one are the shared cache's", hint="give the image another tag"
        )
    return ref


def add_remote_cache_arguments(parser: argparse.ArgumentParser) -> None:
    """``--cache``, ``--cache-write`` and ``--cache-read-only``."""
    parser.add_argument("--cache", default="", metavar="REPOSITORY", help="read layers from this shared cache")
    parser.add_argument("--cache-write", default="", metavar="REPOSITORY", help="share what is built here")
    parser.add_argument("--cache-read-only", action="store_true", help="share nothing, whatever the settings say")


def parse_build_options(arguments: Sequence[str], session: str, *, push: bool = False) -> BuildOptions:
    """Read the options of a build session, or of one that only pushes; raises DefinitionError."""
    parser = Parser(prog=f"nox -s {session} --", add_help=True)
    parser.add_argument("--frozen", action="store_true", help="a model that differs from its lock is an error")
    if push:
        parser.add_argument("push", metavar="REF", help="REGISTRY/NAME[:TAG] that the image is pushed to")
    else:
        parser.add_argument("--push", default="", metavar="REF", help="push the image to REGISTRY/NAME[:TAG]")
        parser.add_argument("--no-import", action="store_true", help="make the layers, leave local storage alone")
    parser.add_argument("--tag", action="append", default=[], metavar="TAG", help="one more tag to push; repeatable")
    parser.add_argument("--attest", action="store_true", help="attach a bill of materials and provenance")
    parser.add_argument("--sign-by", type=Path, metavar="KEY", help="sign what is pushed by a private key (PEM)")
    add_remote_cache_arguments(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report")
    parser.add_argument("--summary", type=Path, metavar="FILE", help="add the report as Markdown to a file")
    parser.add_argument("--jobs", type=positive, default=len(os.sched_getaffinity(0)), help="layers packed at once")
    parser.add_argument("--timings", action="store_true", help="print what each phase took")
    options = parser.parse_args(list(arguments))
    if options.tag and not options.push:
        parser.error("--tag names more tags to push: say --push too")
    if (options.attest or options.sign_by) and not options.push:
        parser.error("--attest and --sign-by speak of what is pushed: say --push too")
    return BuildOptions(
        frozen=options.frozen,
        no_import=push or options.no_import,
        json=options.json,
        summary=options.summary,
        jobs=options.jobs,
        push=options.push,
        tags=tuple(options.tag),
        share=RemoteCacheOptions.of(options),
        timings=options.timings,
        attest=options.attest,
        sign_by=options.sign_by,
    )


def positive(text: str) -> int:
    """An argument that is a number from 1 on; raises what argparse expects."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a number from 1 on, not {text!r}")
    return int(text)


def open_remote_cache(context: BuildContext, options: RemoteCacheOptions) -> None:
    """Let ``shop`` use the shared caches that options and settings name; raises DefinitionError for a wrong name."""
    project = context.project
    read = options.cache or project.cache
    write = options.cache_write or project.cache_write
    if not (read or write):
        return
    from buildkit.oci.reference import parse_repository
    from buildkit.remote.cache_client import CacheClient
    from buildkit.tools.registry import Registries

    def open_cache(said: str, setting: str, key: str) -> CacheClient:
        what = f"--{key}" if said else f"[tool.buildkit] {key}"
        return CacheClient(parse_repository(said or setting, what), registries)

    registries = Registries(context.stop)
    writes = open_cache(options.cache_write, project.cache_write, "cache-write") if write else None
    same = writes is not None and read in ("", write)
    reads = writes if same else open_cache(options.cache, project.cache, "cache")
    context.remote_cache.connect(reads, None if options.cache_read_only else writes)
