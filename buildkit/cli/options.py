"""Parsers of the sessions' arguments, and the options that several sessions share."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from buildkit.build.options import BuildOptions, RemoteCacheOptions
from buildkit.command_names import name_commands
from buildkit.declare.schema import suggest_word
from buildkit.declare.target import ARCH_NAMES
from buildkit.digits import find_number
from buildkit.errors import DefinitionError

_SHORT = 120  # characters of a usage that is shown whole
_OPTION = re.compile(r"\[-(?:[^\[\]]|\[[^\[\]]*\])*\] ?")


class Parser(argparse.ArgumentParser):
    """A parser that raises DefinitionError for wrong arguments; the hint is the usage, of many options without them."""

    def error(self, message: str) -> NoReturn:
        """Raise DefinitionError, with the option that was probably meant."""
        usage = " ".join(self.format_usage().split())
        hint = usage
        if len(usage) > _SHORT:
            program, arguments = usage[: len(self.prog) + 7], usage[len(self.prog) + 7 :]
            needed = _OPTION.sub("", arguments.strip()).strip()
            hint = f"{program} [OPTION …] {needed}".strip() + "; --help lists the options"
        unknown = message.partition("unrecognized arguments: ")[2].split()
        named = re.findall(r"--([a-z-]+)", usage)  # without the dashes, in which all are alike
        if unknown and (near := suggest_word(unknown[0].partition("=")[0].lstrip("-"), named)):
            hint = f"{near.replace('`', '`--', 1)} {hint}"
        raise DefinitionError(message, hint=hint)

    def format_help(self) -> str:
        """Return the help text as it is printed."""
        return name_commands(super().format_help())


def make_parser(command: str, stage: str = "") -> Parser:
    """Return a parser whose usage begins with the session; what is printed begins as the user called it."""
    return Parser(prog=f"nox -s {command}-{stage} --" if stage else f"nox -s {command} --")


def parse_positive(text: str) -> int:
    """Return the positive integer that an argument names; raises ArgumentTypeError."""
    number = find_number(text)
    if not number:
        raise argparse.ArgumentTypeError(f"must be a number from 1 on, not {text!r}")
    return number


def add_remote_cache_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--cache``, ``--cache-write`` and ``--cache-read-only``."""
    parser.add_argument("--cache", default="", metavar="REPOSITORY", help="read layers from this remote cache")
    parser.add_argument("--cache-write", default="", metavar="REPOSITORY", help="write layers built here to this one")
    parser.add_argument("--cache-read-only", action="store_true", help="write to no remote cache, despite the settings")


def remote_cache_options(options: argparse.Namespace) -> RemoteCacheOptions:
    """Return the options that ``add_remote_cache_arguments`` added."""
    return RemoteCacheOptions(
        cache=options.cache, cache_write=options.cache_write, cache_read_only=options.cache_read_only
    )


def add_prior_build_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the build that comes before something is run."""
    add_changed_models_argument(parser)
    add_secret_argument(parser)
    add_arg_argument(parser)
    add_remote_cache_arguments(parser)


def prior_build_options(options: argparse.Namespace, delivery: str) -> BuildOptions:
    """Return what ``add_prior_build_arguments`` asks for."""
    return BuildOptions(
        jobs=count_cpus(),
        share=remote_cache_options(options),
        changed_models=options.changed_models,
        secrets=tuple(options.secret),
        delivery=delivery,
        args=tuple(options.arg),
    )


def parse_build_options(arguments: Sequence[str], stage: str = "", *, push: bool = False) -> BuildOptions:
    """Parse the options of ``build``, ``build-STAGE`` or (``push``) ``push-STAGE``; raises DefinitionError."""
    parser = _build_parser(stage, push=push)
    options = parser.parse_args(list(arguments))
    if options.tag and not options.push:
        parser.error("--tag adds tags to what is pushed: give --push, too")
    if (options.attest or options.sign_by or options.sign_keyless) and not options.push:
        parser.error("--attest, --sign-by and --sign-keyless apply to what is pushed: give --push, too")
    if options.sign_tags and not options.sign_by:
        parser.error("--sign-tags needs a key: give --sign-by, too")
    return BuildOptions(
        frozen=options.frozen,
        changed_models=options.changed_models,
        secrets=tuple(options.secret),
        args=tuple(options.arg),
        no_import=push or options.no_import,
        delivery="" if push else options.delivery,
        json=options.json,
        summary=options.summary,
        jobs=options.jobs,
        push=options.push,
        tags=tuple(options.tag),
        share=remote_cache_options(options),
        timings=options.timings,
        attest=options.attest,
        sign_by=options.sign_by,
        sign_keyless=options.sign_keyless,
        sign_tags=options.sign_tags,
        arches=tuple(dict.fromkeys(options.arch)),
    )


def _build_parser(stage: str, *, push: bool) -> Parser:
    parser = make_parser("push" if push else "build", stage)
    parser.add_argument(
        "--frozen",
        action="store_true",
        help="keep to the locks: fail if a model of the repository is missing, or a Debian version is gone",
    )
    add_changed_models_argument(parser)
    add_secret_argument(parser)
    add_arg_argument(parser)
    parser.add_argument(
        "--arch", "--platform", type=parse_arches, action="extend", default=[], metavar="ARCH|all",
        help="processor of the image: aarch64 (arm64), x86_64 (amd64), or all of the project; repeatable",
    )  # fmt: skip
    if push:
        parser.add_argument("push", metavar="REF", help="push the image to REGISTRY/NAME[:TAG]")
    else:
        parser.add_argument("--push", default="", metavar="REF", help="push the image to REGISTRY/NAME[:TAG]")
        where = parser.add_mutually_exclusive_group()
        where.add_argument("--no-import", action="store_true", help="build the layers, but deliver no image")
        where.add_argument(
            "--delivery", choices=("auto", "store", "import", "docker"), default="", help="where the image goes"
        )
        where.add_argument("--to", dest="delivery", choices=("docker",), help="the same as --delivery docker")
    parser.add_argument("--tag", action="append", default=[], metavar="TAG", help="push this tag, too; repeatable")
    parser.add_argument("--attest", action="store_true", help="attach an SBOM and provenance to the image")
    parser.add_argument("--sign-by", type=Path, metavar="KEY", help="sign what is pushed with a private key (PEM)")
    parser.add_argument("--sign-keyless", action="store_true", help="sign it by the identity of this CI job (Sigstore)")
    parser.add_argument("--sign-tags", action="store_true", help="sign every pushed tag as well, not only the image")
    add_remote_cache_arguments(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report to a file")
    parser.add_argument("--summary", type=Path, metavar="FILE", help="append the report to a file, as Markdown")
    add_jobs_argument(parser)
    parser.add_argument("--timings", action="store_true", help="print how long each phase took")
    return parser


def add_changed_models_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--changed-models``."""
    parser.add_argument(
        "--changed-models", action="store_true", help="use models that differ from their lock, with a warning"
    )


def add_secret_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--secret``, which gives pairs of a name and a source."""
    parser.add_argument(
        "--secret", type=parse_secret, action="append", default=[], metavar="id=NAME,src=FILE|env=VARIABLE",
        help="give a secret to the steps that name it; repeatable",
    )  # fmt: skip


def add_arg_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--arg``, which gives pairs of a name and a value."""
    parser.add_argument(
        "--arg", type=_parse_arg, action="append", default=[], metavar="NAME=VALUE",
        help="value of a build argument ([args]); without =VALUE, that of the environment; repeatable",
    )  # fmt: skip


def add_arch_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--arch``, which gives a processor by the kernel's name, empty without the option."""
    parser.add_argument(
        "--arch", type=_parse_arch, default="", metavar="ARCH",
        help="processor of the images: aarch64 (arm64) or x86_64 (amd64); default: this machine's, if they are for it",
    )  # fmt: skip


def parse_arches(text: str) -> list[str]:
    """Return the processors that ``arm64`` or ``linux/amd64,linux/arm64`` names; raises ArgumentTypeError."""
    return ["all" if name == "all" else _parse_arch(name) for name in text.split(",")]


def _parse_arch(text: str) -> str:
    if not text:
        return ""
    name = text.removeprefix("linux/")  # as in --platform of podman and docker
    if name not in ARCH_NAMES:
        raise argparse.ArgumentTypeError(f"no image can be for {text!r}: it is one of {', '.join(ARCH_NAMES)}")
    return ARCH_NAMES[name]


def _parse_arg(text: str) -> tuple[str, str]:
    name, given, value = text.partition("=")
    if not name:
        raise argparse.ArgumentTypeError(f"must be NAME=VALUE, not {text!r}")
    if not given and name not in os.environ:
        raise argparse.ArgumentTypeError(f"the environment has no {name}: write {name}=VALUE")
    return name, value if given else os.environ[name]


def parse_secret(text: str) -> tuple[str, str]:
    """Return the name and the source (``env:NAME``, ``file:PATH``) of ``id=…,src=…``, as builders of Containerfiles do.

    A file is relative to the current folder. Raises ArgumentTypeError.
    """
    fields = {key.strip(): value for key, _, value in (part.partition("=") for part in text.split(","))}
    kind, name = fields.pop("type", ""), fields.pop("id", "")
    place = fields.pop("src", "") or fields.pop("source", "")
    variable = fields.pop("env", "") or (place if kind == "env" else "")
    if fields or not name or bool(variable) == bool(place and kind != "env") or kind not in ("", "env", "file"):
        raise argparse.ArgumentTypeError(f"must be id=NAME,src=FILE or id=NAME,env=VARIABLE, not {text!r}")
    return name, f"env:{variable}" if variable else f"file:{Path(place).expanduser().absolute()}"


def add_jobs_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--jobs``."""
    parser.add_argument(
        "--jobs", type=parse_positive, default=count_cpus(), metavar="N",
        help="pack this many layers at once (default: the number of CPUs)",
    )  # fmt: skip


def count_cpus() -> int:
    """Return the number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0))
