"""Translate one target of a Containerfile into the draft of an image. Pure.

What runs is not copied but understood: an installation becomes a list or a lock, a ``COPY`` a layer of files. Whatever
is not understood is left over, with its line and with what a person can do.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from buildkit.adopt.commands import Command, split_commands
from buildkit.adopt.draft import CopyDraft, ImageDraft, Leftover
from buildkit.adopt.installs import is_build_tool, is_idle, read_apt, read_lock_install, read_pip, read_user
from buildkit.adopt.instructions import Instruction, ParsedContainerfile, SourceStage
from buildkit.adopt.roots import choose_root
from buildkit.adopt.variables import expand
from buildkit.declare.stage import find_reserved

_PACKAGE_FILES = re.compile(
    r"(?:.*/)?(?:pyproject\.toml|uv\.lock|poetry\.lock|setup\.(?:py|cfg)|requirements[\w.-]*\.(?:txt|in)|\.python-version|"
    r"constraints[\w.-]*\.txt|Pipfile(?:\.lock)?|pylock(?:\.[\w-]+)?\.toml)"
)
_PACKAGE_PLACES = re.compile(
    r"(?:/opt/|/app/|/)?(?:.*/)?(?:\.?venv|virtualenv|site-packages|dist-packages|install|\.local|wheels)(?:/.*)?|/usr/local(?:/(?:bin|lib).*)?"
)
_UV_PLACES = ("/uv", "/uvx", "/usr/local/bin/uv", "/bin/uv")
_DEFAULT_UID = 1000
_VIRTUAL_PATH = re.compile(r"[^:]*(?:\.?venv|\.local)/bin")
_SECONDS = re.compile(r"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+)s)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryFacts:
    """What the translation asks about the repository: ``exists`` for a path, and the Python that it wants."""

    exists: Callable[[str], bool]
    python: str = ""


def translate(
    file: ParsedContainerfile, target: SourceStage, name: str, tree: RepositoryFacts
) -> tuple[ImageDraft, tuple[Leftover, ...]]:
    """Return the draft of the image that ``target`` makes, called ``name``, and what is left over."""
    translation = _Translation(file, name, tree)
    translation.read(target)
    return translation.image, tuple(translation.leftovers.values())


class _Translation:
    def __init__(self, file: ParsedContainerfile, name: str, tree: RepositoryFacts) -> None:
        self._file = file
        self._tree = tree
        self._stages = {stage.name.lower(): stage for stage in file.stages if stage.name}
        self._values: dict[str, str] = dict(file.arguments)
        self._read: set[int] = set()
        self._placed: dict[str, str] = {}  # files of packages, which become no copies: sources by their targets
        self._is_dependency = False
        self.image = ImageDraft(name=name)
        self.leftovers: dict[int, Leftover] = {}

    def read(self, stage: SourceStage) -> None:
        """Read a stage after the one that it continues."""
        if stage.line in self._read:
            return
        self._read.add(stage.line)
        base = expand(stage.base, self._values)
        if base is None:
            self._leave(stage.line, f"FROM {stage.base}", "a variable has no value here: give its ARG a default")
            return
        earlier = self._stages.get(base.lower())
        if earlier is not None and earlier.line < stage.line:
            self.read(earlier)
        elif not self._is_dependency:
            self._choose_root(stage, base)
        for instruction in stage.instructions:
            self._read_instruction(instruction)

    def _choose_root(self, stage: SourceStage, base: str) -> None:
        if base.lower() == "scratch":
            self._leave(stage.line, "FROM scratch", "the image stands on Debian here, which brings Python")
            return
        self.image.root = choose_root(base, self._tree.python)
        if self.image.root.image:
            self._leave(
                stage.line,
                f"FROM {stage.base}",
                f"pin it: put the digest of {base} into `image` of the stage (skopeo inspect docker://{base})"
                if "@sha256:" not in base
                else "check `python`, `glibc` and `interpreter` in [tool.buildkit]: they must be those of this image",
            )

    def _read_instruction(self, instruction: Instruction) -> None:
        value = expand(instruction.value, self._values)
        match instruction.name:
            case "RUN":
                self._run(instruction)
            case "COPY" | "ADD":
                self._copy(instruction, value)
            case "ARG":
                self._argument(instruction)
            case "ENV":
                self._environment(instruction)
            case _ if self._is_dependency:
                return  # the config of a stage that is only copied from
            case "CMD" | "ENTRYPOINT" | "HEALTHCHECK":
                self._config(instruction)  # the container's shell expands their variables, or nobody does
            case _ if value is None:
                self._leave_instruction(instruction, "a variable has no value here: write the value")
            case _:
                self._config(replace(instruction, value=value))

    # config

    def _config(self, instruction: Instruction) -> None:
        image, value, words = self.image, instruction.value, instruction.words
        match instruction.name:
            case "WORKDIR":
                image.workdir = self._absolute(value)
            case "USER":
                image.user = value.partition(":")[0]
            case "EXPOSE":
                image.ports |= dict.fromkeys(value.split())
            case "VOLUME":
                image.volumes |= dict.fromkeys(words or value.split())
            case "LABEL":
                image.labels |= dict(_pairs(value))
            case "STOPSIGNAL":
                image.stop_signal = value
            case "ENTRYPOINT" | "CMD":
                self._command(instruction)
            case "HEALTHCHECK":
                self._healthcheck(instruction)
            case "MAINTAINER":
                image.labels["org.opencontainers.image.authors"] = value
            case name:  # SHELL, ONBUILD
                self._leave_instruction(instruction, f"{name} has no counterpart: a [[run]] step has `command`")

    def _command(self, instruction: Instruction) -> None:
        words = instruction.words if instruction.words is not None else _as_shell(instruction.value)
        if instruction.name == "ENTRYPOINT":
            self.image.entrypoint, self.image.cmd = words, ()
        else:
            self.image.cmd = words

    def _healthcheck(self, instruction: Instruction) -> None:
        kind, _, rest = instruction.value.partition(" ")
        if kind.upper() != "CMD":
            self.image.healthcheck = ()
            return
        command = replace(instruction, value=rest.strip())
        self.image.healthcheck = command.words if command.words is not None else _as_shell(rest.strip())
        for flag, key in (("interval", "interval"), ("timeout", "timeout"), ("start-period", "start-period")):
            if (seconds := _parse_seconds(instruction.flag(flag) or "")) is not None:
                self.image.health_times[key] = seconds
        if (retries := instruction.flag("retries") or "").isdigit():
            self.image.health_times["retries"] = int(retries)

    def _argument(self, instruction: Instruction) -> None:
        name, equals, default = instruction.value.partition("=")
        outer = dict(self._file.arguments).get(name, "")
        value = expand(default.strip("\"'"), self._values) if equals else outer
        self._values[name] = value or ""
        if not value:
            self._leave_instruction(instruction, f'give it a value: [args] {name} = "…" where something uses it')

    def _environment(self, instruction: Instruction) -> None:
        for name, written in _pairs(instruction.value):
            value = expand(written, {**self._values, "PATH": "$PATH"})
            if value is None:
                self._leave_instruction(instruction, f"{name} uses a variable that has no value here")
                continue
            self._values[name] = value
            if name == "PATH":
                kept = [part for part in value.split(":") if not _VIRTUAL_PATH.fullmatch(part)]
                if kept == ["$PATH"]:
                    continue  # the virtual environment's bin is in front already
                value = ":".join(kept)
            if not self._is_dependency and not name.startswith(("PIP_", "UV_", "POETRY_", "DEBIAN_", "VIRTUAL_ENV")):
                self.image.env[name] = value

    # files

    def _copy(self, instruction: Instruction, value: str | None) -> None:
        if value is None or instruction.heredocs:
            advice = "write the file into the repository and copy it" if instruction.heredocs else "write the paths out"
            self._leave_instruction(instruction, advice)
            return
        words = instruction.words or tuple(value.split())
        if len(words) < 2:
            self._leave_instruction(instruction, "it has no target")
        elif (origin := instruction.flag("from")) is not None:
            self._copy_from(instruction, origin, words)
        else:
            for source in words[:-1]:
                self._copy_source(instruction, source, words[-1], several=len(words) > 2)

    def _copy_from(self, instruction: Instruction, origin: str, words: tuple[str, ...]) -> None:
        origin = expand(origin, self._values) or origin
        earlier = self._stages.get(origin.lower())
        if earlier is None and origin.isdigit() and int(origin) < len(self._file.stages):
            earlier = self._file.stages[int(origin)]
        if earlier is None:
            if not all(source in _UV_PLACES for source in words[:-1]):
                self._leave_instruction(
                    instruction, f"copies from the image {origin}: fetch the files into the repository"
                )
            return
        if all(_PACKAGE_PLACES.fullmatch(source) for source in words[:-1]):
            self._read_dependency(earlier)
            return
        advice = "files of another build stage: copy them from the repository, or make them by a [[run]] step"
        if any("node" in stage.base for stage in (earlier,)):
            advice = "what Node.js builds: build it outside, and copy the result with `untracked = true`"
        self._read_dependency(earlier)
        if not any(self._is_copied(source) for source in words[:-1]):
            self._leave_instruction(instruction, advice)

    def _is_copied(self, path: str) -> bool:
        return any(path.rstrip("/") == copy.target.rstrip("/") for copy in self.image.copies)

    def _read_dependency(self, stage: SourceStage) -> None:
        """Read a stage that files are copied from: its packages are the image's, what it compiles with is not."""
        before, values = self._is_dependency, dict(self._values)
        self._is_dependency = True
        self.read(stage)
        self._is_dependency, self._values = before, values

    def _copy_source(self, instruction: Instruction, source: str, target: str, *, several: bool) -> None:
        if "://" in source or source.startswith("git@"):
            self._leave_instruction(
                instruction, 'fetch it into the repository, or make it a model (source = "https://…")'
            )
            return
        path = posixpath.normpath(source.lstrip("/")) if source.strip("/") else "."
        place = self._absolute(target)
        if _PACKAGE_FILES.fullmatch(path):  # what installs reads it
            is_folder = several or target.endswith("/") or place == (self.image.workdir or "/")
            self._placed[posixpath.join(place, posixpath.basename(path)) if is_folder else place] = path
            return
        if self._is_dependency:
            return
        if any(letter in path for letter in "*?["):
            self._leave_instruction(instruction, "write the files out, or copy their folder")
            return
        if not self._tree.exists(path):
            self._leave_instruction(instruction, f"{path} is not in the repository")
            return
        if several or target.endswith("/") or target in (".", "./"):
            place = place if self._tree.exists(f"{path}/") else posixpath.join(place, posixpath.basename(path))
        if reserved := find_reserved(place):
            self._leave_instruction(instruction, f"no layer may have /{reserved}: copy it elsewhere")
            return
        self.image.copies[CopyDraft(source=path, target=place)] = None

    def _absolute(self, path: str) -> str:
        return posixpath.normpath(posixpath.join(self.image.workdir or "/", path))

    # commands

    def _run(self, instruction: Instruction) -> None:
        commands = split_commands(instruction)
        if commands is None:
            self._leave_instruction(instruction, _STEP)
            return
        left = [command for command in commands if not self._understand(command)]
        if left:
            text = " && ".join(
                " ".join(word for word in command if word != "|" or command[0] != "|") for command in left
            )
            advice = _FETCHES if _is_fetch(left) else _STEP
            self._leave(instruction.line, f"RUN {text[:160]}", advice)

    def _understand(self, command: Command) -> bool:
        words = tuple(expand(word, self._values) or word for word in command)
        if is_idle(words):
            return True
        packages = read_apt(words)
        if packages is not None:
            for package in packages:
                lists = self.image.builder_apt if self._is_dependency or is_build_tool(package) else self.image.apt
                lists[package] = None
            return True
        account = read_user(words)
        if account is not None:
            name, uid = account
            if name and not self._is_dependency:
                self.image.users[name] = uid if uid is not None else _DEFAULT_UID + len(self.image.users)
            return True
        return self._install(words) or self._is_of_folders(words)

    def _install(self, words: Command) -> bool:
        locked = read_lock_install(words)
        wheels = self.image.wheels
        if locked is not None:
            self.image.wheels = replace(
                wheels,
                locks=tuple(dict.fromkeys((*wheels.locks, locked.lock))),
                extras=tuple(dict.fromkeys((*wheels.extras, *locked.extras))),
                groups=tuple(dict.fromkeys((*wheels.groups, *locked.groups))),
                package=wheels.package or locked.project,
            )
            return True
        pip = read_pip(words)
        if pip is None:
            return False
        lines = [f"-r {self._in_repository(file)}" for file in pip.files]
        lines += [f"-c {self._in_repository(file)}" for file in pip.constraints]
        known = [path for path in pip.paths if not path.startswith("/") or self._tree.exists(self._in_repository(path))]
        paths = [self._in_repository(re.split(r"\[", path)[0]) + "".join(re.findall(r"\[.*\]", path)) for path in known]
        fetched = [line for line in pip.lines if "://" in line and not line.startswith("--")]
        self.image.wheels = replace(
            wheels,
            lines=tuple(
                dict.fromkeys(
                    (
                        *wheels.lines,
                        *lines,
                        *(line for line in pip.lines if line not in fetched),
                        *(f"./{p}" if not p.startswith(".") else p for p in paths),
                    )
                )
            ),
        )
        return not fetched

    def _in_repository(self, path: str) -> str:
        """Return a path of a command as one of the repository: files are copied below the working folder."""
        place = self._absolute(path)
        if place in self._placed:
            return self._placed[place]
        for copy in self.image.copies:
            if place == copy.target:
                return copy.source
            if place.startswith(f"{copy.target.rstrip('/')}/"):
                return posixpath.normpath(posixpath.join(copy.source, place[len(copy.target.rstrip("/")) + 1 :]))
        return posixpath.basename(path) or "."

    def _is_of_folders(self, words: Command) -> bool:
        """Return whether a command only makes folders of the image, or gives them to its user: copies make folders."""
        if words[0] in ("mkdir", "chown", "chgrp"):
            places = [self._absolute(word) for word in words[1:] if word.startswith(("/", "."))]
            known = {self.image.workdir or "/app", *(copy.target for copy in self.image.copies)}
            return all(place in known for place in places)
        return False

    def _leave_instruction(self, instruction: Instruction, advice: str) -> None:
        self._leave(instruction.line, f"{instruction.name} {instruction.value[:160]}", advice)

    def _leave(self, line: int, text: str, advice: str) -> None:
        self.leftovers.setdefault(line, Leftover(file=self._file.path, line=line, text=text, advice=advice))


_STEP = "if the image needs it, write it as a [[run]] step (docs/stages.md); steps run in the root, before copies"
_FETCHES = (
    "it fetches while it builds: pin what it fetches as a model or a package, or use a [[run]] step with network = true"
)


def _is_fetch(commands: list[Command]) -> bool:
    words = {word for command in commands for word in command}
    return not words.isdisjoint(("curl", "wget", "git", "npm", "yarn", "pnpm"))


def _as_shell(text: str) -> tuple[str, ...]:
    return ("/bin/sh", "-c", text)


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    """Yield the pairs of ``ENV`` and ``LABEL``: ``A=1 B="two words"``, or the old ``A 1``."""
    first = text.split(maxsplit=1)
    if first and "=" not in first[0]:
        yield first[0], first[1] if len(first) > 1 else ""
        return
    pattern = re.compile(
        r"(?P<key>\"[^\"]+\"|'[^']+'|[^\s=\"']+)=(?P<value>(?:\"(?:[^\"\\]|\\.)*\"|'[^']*'|\\.|[^\s\"'\\])*)"
    )
    for found in pattern.finditer(text):
        yield found["key"].strip("\"'"), _unquoted(found["value"])


def _unquoted(text: str) -> str:
    return re.sub(
        r"\"((?:[^\"\\]|\\.)*)\"|'([^']*)'", lambda found: found[1] if found[1] is not None else found[2], text
    ).replace("\\ ", " ")


def _parse_seconds(text: str) -> int | None:
    found = _SECONDS.fullmatch(text)
    if not text or found is None or not any(found.groups()):
        return None
    hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return hours * 3600 + minutes * 60 + seconds
