"""RUN: what its commands install, make and fetch. Pure."""

from __future__ import annotations

import posixpath
import re

from buildkit.adopt.commands import Command, format_command, split_commands
from buildkit.adopt.downloads import (
    HubDownload,
    make_hub_model,
    make_web_model,
    read_hub_command,
    read_hub_script,
    read_web_command,
)
from buildkit.adopt.idle import is_idle
from buildkit.adopt.installs import is_build_tool, read_apt, read_user
from buildkit.adopt.reading import ContainerfileReading
from buildkit.adopt.variables import expand
from buildkit.adopt.wheel_installs import read_conda, read_wheels
from buildkit.declare.instructions import Instruction

_DEFAULT_UID = 1000
_STEP = "if the image needs it, write it as a [[run]] step (docs/stages.md); steps run in the root, before copies"
_FETCHES = (
    "it fetches while it builds: pin what it fetches as a model or a package, or use a [[run]] step with network = true"
)
_FETCHES_BY_CODE = (
    "it fetches while it builds: pin what it fetches as a model (`https:`, `hf:`) or a package; steps see no packages"
)
_CODE = (
    "steps see neither packages nor copies: run it before the build and copy the result (`untracked = true`), or when "
    "the container starts"
)
_SOURCES = "another source of packages: [root] takes Debian's; write it into a [[run]] step with network = true"
_CHANGES = "it changes files that are copied: change them in the repository"
_FOLDERS = "a folder to write to: name it in `tmpfs` of [running] (docs/running.md), or in `volumes` of [config]"
_APK = "write Debian's names of these packages into requirements/base.apt; compilers into requirements/builder.apt"
_PIPENV = (
    "no lock of Pipenv is read: pipenv requirements > requirements.txt, and in {input} the line -r ../requirements.txt"
)
_CHANGING = ("chmod", "sed", "mv", "ln", "rm", "dos2unix")
_MODEL_SUFFIXES = (
    ".onnx",
    ".safetensors",
    ".pt",
    ".pth",
    ".gguf",
    ".bin",
    ".joblib",
    ".pkl",
    ".h5",
    ".keras",
    ".tflite",
)
_FETCHERS = (
    "curl",
    "wget",
    "git",
    "npm",
    "yarn",
    "pnpm",
    "gdown",
    "gsutil",
    "aws",
    "playwright",
    "nltk.downloader",
    "spacy",
)
_PYTHON = re.compile(r"(?:\S*/)?python(?:3(?:\.\d+)?)?|gunicorn|django-admin|flask|alembic|pytest|dvc|make")


def read_run(reading: ContainerfileReading, instruction: Instruction) -> None:
    """Understand each command of a RUN; those that nobody understands are left to a person."""
    script = _find_python_script(instruction)
    if script is not None:
        _read_downloads(reading, instruction, read_hub_script(script))
        return
    commands = split_commands(instruction)
    if commands is None:
        reading.leave(instruction, _STEP)
        return
    before = reading.files.workdir
    left = [command for command in commands if not _understand(reading, instruction, command)]
    reading.files.workdir = before  # `cd` ends with its RUN
    if left:
        reading.leave(instruction, _advise(reading, left), " && ".join(map(format_command, left)))


def _find_python_script(instruction: Instruction) -> str | None:
    """Return the here-document that Python is to run, if that is all."""
    is_python = re.fullmatch(r"(?:\S*/)?python[\d.]*(?: -)? <<-?[\"']?\w+[\"']?", instruction.value)
    return instruction.heredocs[0].text if is_python and len(instruction.heredocs) == 1 else None


def _understand(reading: ContainerfileReading, instruction: Instruction, command: Command) -> bool:
    words = tuple(expand(word, reading.values) or word for word in command)
    if words[0] == "cd" and len(words) == 2:
        reading.files.workdir = reading.files.absolute(words[1])
        return True
    return (
        is_idle(words)
        or _read_packages(reading, words)
        or _read_account(reading, words)
        or read_wheels(reading, instruction, words)
        or read_conda(reading, instruction, words)
        or _read_model(reading, instruction, words)
        or _is_of_folders(reading, words)
    )


def _read_packages(reading: ContainerfileReading, words: Command) -> bool:
    packages = read_apt(words)
    for package in packages or ():
        is_tool = reading.is_dependency or is_build_tool(package)
        lists = reading.image.builder_apt if is_tool else reading.image.apt
        lists[package] = None
    return packages is not None


def _read_account(reading: ContainerfileReading, words: Command) -> bool:
    account = read_user(words)
    if account is None:
        return False
    name, uid = account
    users = reading.image.users
    if name and not reading.is_dependency:
        users[name] = uid if uid is not None else max((_DEFAULT_UID - 1, *users.values())) + 1
    return True


def _read_model(reading: ContainerfileReading, instruction: Instruction, words: Command) -> bool:
    hub = read_hub_command(words)
    if hub is not None:
        return _read_downloads(reading, instruction, (hub,))
    if (
        _PYTHON.fullmatch(words[0])
        and words[1:2] == ("-c",)
        and len(words) > 2
        and (found := read_hub_script(words[2]))
    ):
        return _read_downloads(reading, instruction, found)
    web = read_web_command(words)
    if web is None or not web[1].endswith(_MODEL_SUFFIXES):
        return False
    model = make_web_model(web[0], reading.files.absolute(web[1]))
    if model is None or any(known.name == model.name for known in reading.image.models):
        return False
    reading.image.models[model] = None
    return True


def _read_downloads(reading: ContainerfileReading, instruction: Instruction, found: tuple[HubDownload, ...]) -> bool:
    """Add the models; those in the hub's own cache get a folder, from which the service has to load them."""
    if not found:
        reading.leave(instruction, _CODE)
    for download in found:
        name = download.repository.rpartition("/")[2]
        place = reading.files.absolute(download.folder or f"/models/{name}")
        model = make_hub_model(download, place)
        if model is None or any(known.name == model.name for known in reading.image.models):
            reading.leave(instruction, "a model of the hub: add it to requirements/models.toml (docs/locks.md)")
            continue
        reading.image.models[model] = None
        if not download.folder:
            lines = [f"it is the model {name} of requirements/models.toml now: load it from {place}, not by its name"]
            if not download.files:
                lines.append("add `files` there if the repository has it in several formats (docs/locks.md)")
            reading.leave(instruction, "\n".join(lines))
    return True


def _is_of_folders(reading: ContainerfileReading, words: Command) -> bool:
    """Return whether a command only makes, owns or removes what needs no step."""
    files = reading.files
    places = [files.absolute(word) for word in words[1:] if word.startswith(("/", ".")) or word in files.places]
    known = {files.workdir or "/app", *files.places, *map(posixpath.dirname, files.places)}
    match words[0]:
        case "mkdir" | "chown" | "chgrp" | "install":
            return bool(places) and all(place in known for place in places)
        case "chmod":
            sources = [files.find_source(files.absolute(word)) for word in words[2:]]
            is_set = all(source and reading.tree.is_executable(source) for source in sources)
            return words[1] in ("+x", "a+x", "755", "0755", "u+x") and is_set
        case "rm":
            return not any(files.find_source(place) for place in places)
        case _:
            return False


def _advise(reading: ContainerfileReading, commands: list[Command]) -> str:
    """Return what a person can do about commands that were not understood; the first that is special decides."""
    told = (_advise_command(reading, tuple(expand(word, reading.values) or word for word in c)) for c in commands)
    return next(filter(None, told), _STEP)


def _advise_command(reading: ContainerfileReading, words: Command) -> str:
    is_code = _PYTHON.fullmatch(words[0]) is not None
    if words[0] in _CHANGING and (sources := _sources(reading, words)):
        return f"git keeps the mode: git update-index --chmod=+x {sources[0]}" if words[0] == "chmod" else _CHANGES
    if any(word.startswith("/etc/apt/") for word in words):
        return _SOURCES
    if not {*words}.isdisjoint(_FETCHERS):
        return _FETCHES_BY_CODE if is_code else _FETCHES
    told = {
        "pipenv": _PIPENV.format(input=f"requirements/{reading.tree.stage}.in"),
        "apk": _APK, "add-apt-repository": _SOURCES, "apt-key": _SOURCES,
        "mkdir": _FOLDERS, "chown": _FOLDERS, "chmod": _FOLDERS,
    }  # fmt: skip
    return told.get(words[0], _CODE if is_code else "")


def _sources(reading: ContainerfileReading, words: Command) -> list[str]:
    """Return the files of the repository that a command names by their places in the image."""
    places = (reading.files.absolute(word) for word in words[1:] if not word.startswith("-"))
    return [source for place in places if (source := reading.files.find_source(place))]
