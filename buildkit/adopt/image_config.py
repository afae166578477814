"""Instructions that only describe the image: ENV, USER, CMD, HEALTHCHECK and their like become its config. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from buildkit.adopt.reading import ContainerfileReading
from buildkit.declare.instructions import Instruction
from buildkit.declare.written_secrets import find_secret

SECRET_NAME = re.compile(r"(?:.*_)?(?:TOKEN|PASSWORD|PASSWD|SECRET|APIKEY|KEY|CREDENTIALS)(?:_.*)?", re.IGNORECASE)
_OF_THE_BUILDER = re.compile(
    r"(?:(?:TARGET|BUILD)(?:PLATFORM|OS|ARCH|VARIANT)|(?:https?|no|all|ftp)_proxy)", re.IGNORECASE
)
_START = "nox -s run-STAGE -- --option=--env="
_OF_INSTALLERS = ("PIP_", "UV_", "POETRY_", "PIPENV_", "DEBIAN_", "VIRTUAL_ENV", "CONDA_", "MAMBA_")
_BUILD_PATH = re.compile(r"[^:]*(?:\.?venv|\.local|conda\d?(?:/envs/[^/:]+)?|poetry|\.cargo)/bin")
_SECONDS = re.compile(r"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+)(?:\.\d+)?s)?(?:\d+ms)?")
_CONDA_RUN = ("conda", "mamba", "micromamba")


def read_config(reading: ContainerfileReading, instruction: Instruction, value: str | None) -> None:
    """Put an instruction into the config of the image; ``value`` has its variables replaced, None if it cannot."""
    match instruction.name:
        case "LABEL":
            _read_labels(reading, instruction)
        case "ENTRYPOINT" | "CMD":
            _read_command(reading, instruction)
        case "HEALTHCHECK":
            _read_healthcheck(reading, instruction)
        case _ if value is None:
            reading.leave(instruction, "a variable has no value here: write the value")
        case _:
            _read_plain(reading, instruction, value)


def _read_command(reading: ContainerfileReading, instruction: Instruction) -> None:
    """Read a command, whose variables the container's shell replaces, or nobody."""
    image, words = reading.image, instruction.words
    command = without_conda(words if words is not None else (*reading.shell, instruction.value))
    if instruction.name == "ENTRYPOINT":
        image.entrypoint, image.cmd = command, ()
    else:
        image.cmd = command


def _read_plain(reading: ContainerfileReading, instruction: Instruction, value: str) -> None:
    image, words = reading.image, replace(instruction, value=value).words
    match instruction.name:
        case "USER":
            image.user = value.partition(":")[0]
        case "EXPOSE":
            image.ports |= dict.fromkeys(value.split())
        case "VOLUME":
            image.volumes |= dict.fromkeys(words or value.split())
        case "STOPSIGNAL":
            image.stop_signal = value
        case "MAINTAINER":
            image.labels["org.opencontainers.image.authors"] = value
        case name:
            reading.leave(
                instruction, f"{name} has no counterpart: a stage with `from` inherits, and nothing runs later"
            )


def without_conda(words: tuple[str, ...]) -> tuple[str, ...]:
    """Return a command without ``conda run -n NAME``: its environment is the image's own."""
    if len(words) < 2 or words[0].rpartition("/")[2] not in _CONDA_RUN or words[1] != "run":
        return words
    rest = list(words[2:])
    while rest and rest[0].startswith("-"):
        option = rest.pop(0)
        if option in ("-n", "--name", "-p", "--prefix", "--cwd") and rest:
            rest.pop(0)
    return tuple(rest)


def read_shell(reading: ContainerfileReading, instruction: Instruction) -> None:
    """Use another shell for the commands that follow; of a login shell only the shell is kept."""
    words = instruction.words or ()
    reading.shell = tuple(word for word in words if word not in ("--login", "-l")) or reading.shell


def _read_healthcheck(reading: ContainerfileReading, instruction: Instruction) -> None:
    image = reading.image
    kind, _, rest = instruction.value.partition(" ")
    if kind.upper() != "CMD":
        image.healthcheck = ()
        return
    words = replace(instruction, value=rest.strip()).words
    image.healthcheck = without_conda(words if words is not None else (*reading.shell, rest.strip()))
    for key in ("interval", "timeout", "start-period"):
        if (seconds := parse_seconds(instruction.flag(key) or "")) is not None:
            image.health_times[key] = seconds
    if (retries := instruction.flag("retries") or "").isdigit():
        image.health_times["retries"] = int(retries)


def read_argument(reading: ContainerfileReading, instruction: Instruction) -> None:
    """Note an argument; one that the image's config uses later becomes an argument of the stage."""
    name, equals, default = instruction.value.partition("=")
    outer = dict(reading.file.arguments).get(name, "")
    value = (reading.expand(default.strip("\"'")) if equals else outer) or ""
    reading.values[name] = value
    if not reading.is_dependency and not SECRET_NAME.fullmatch(name):
        reading.arguments[name] = value
    if value or _OF_THE_BUILDER.fullmatch(name):
        return
    if SECRET_NAME.fullmatch(name):
        reading.leave(
            instruction, "a secret is no argument: a [[run]] step names it in `secrets` (docs/supply-chain.md)"
        )
    else:
        reading.leave(instruction, f'give it a value: [args] {name} = "…" where something uses it')


def _read_labels(reading: ContainerfileReading, instruction: Instruction) -> None:
    for name, written in _pairs(instruction.value):
        value = _expand_config(reading, written)
        if value is None:
            reading.leave(instruction, f"{name} uses a variable that has no value here")
        else:
            reading.image.labels[name] = value


def read_environment(reading: ContainerfileReading, instruction: Instruction) -> None:
    """Put variables into the config, without those of installers and without the paths of virtual environments."""
    for name, written in _pairs(instruction.value):
        value = reading.expand(written, {"PATH": "$PATH"})
        shown = _expand_config(reading, written)
        if value is None and shown is None:
            reading.leave(instruction, f"{name} uses a variable that has no value here")
            continue
        reading.values[name] = value or ""
        if reading.is_dependency or name.startswith(_OF_INSTALLERS):
            continue
        if name == "PATH":
            kept = [part for part in (value or "").split(":") if not _BUILD_PATH.fullmatch(part)]
            if kept == ["$PATH"]:
                continue  # the image's own virtual environment is in front already
            shown = ":".join(kept)
        found = shown if shown is not None else value or ""
        if find_secret(name, found):
            reading.leave(instruction, f"a secret stays out of the image: {_START}{name}", name)
            continue
        reading.image.env[name] = found


def _expand_config(reading: ContainerfileReading, text: str) -> str | None:
    """Return a value of the config: arguments of the image's own stages stay ``${NAME}``, and are declared."""
    kept = {name: f"${{{name}}}" for name in reading.arguments if name not in reading.image.env}
    value = reading.expand(text, {"PATH": "$PATH", **kept})
    for name in kept if value is not None else ():
        if kept[name] in (value or ""):
            reading.image.args[name] = reading.arguments[name]
            _drop_argument(reading, name)
    return value


def _drop_argument(reading: ContainerfileReading, name: str) -> None:
    text = f"ARG {name}"
    for line in [line for line, found in reading.leftovers.items() if found.text == text]:
        del reading.leftovers[line]


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


def parse_seconds(text: str) -> int | None:
    """Return the seconds of a duration such as ``1m30s``; None if it is none."""
    found = _SECONDS.fullmatch(text)
    if not text or found is None:
        return None
    hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return hours * 3600 + minutes * 60 + seconds
