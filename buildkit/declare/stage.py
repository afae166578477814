"""Stage files (``stages/NAME/stage.toml``): text to a Stage, with every problem reported at once."""

from __future__ import annotations

import posixpath
import tomllib
from dataclasses import dataclass, replace
from typing import Any

from buildkit.declare.shapes import Field, Flag, ListOf, MapOf, Place, Table, Text, Whole
from buildkit.errors import DefinitionError, Problem

STAGE_NAME = r"[a-z0-9]+(?:[._-][a-z0-9]+)*"
PINNED_IMAGE = r"[a-z0-9][A-Za-z0-9./:_-]*@sha256:[0-9a-f]{64}"
VARIANTS = ("extract", "custom", "essential", "apt", "minbase")

_RESERVED = ("bin", "lib", "lib32", "lib64", "libx32", "sbin", "proc", "sys", "dev", "run", "tmp", "var/tmp")


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """An account of the image: ``uid`` and ``gid`` are equal unless said, the home belongs to it."""

    name: str
    uid: int
    gid: int
    home: str
    shell: str = "/usr/sbin/nologin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Debian:
    """A root made by mmdebstrap from the lock beside ``packages`` (an apt list)."""

    suite: str
    packages: str
    variant: str = "minbase"
    components: tuple[str, ...] = ("main",)
    exclude: tuple[str, ...] = ()
    users: tuple[User, ...] = ()
    drop_setuid: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A file or folder of the repository that a step sees, read-only, at ``target``."""

    source: str
    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A step that runs inside the root and extends it."""

    name: str
    command: tuple[str, ...]
    network: bool = False
    env: tuple[tuple[str, str], ...] = ()
    mounts: tuple[Mount, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """Models of a lock, each in a folder of its own below ``target``; all of them unless ``names`` says which."""

    lock: str
    target: str = "/models"
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """Files that git tracks below ``source`` (beside the stage file), at ``target`` in the image."""

    source: str
    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Healthcheck:
    """How a container is asked whether it is well; times in seconds."""

    test: tuple[str, ...]
    interval: int = 30
    timeout: int = 10
    start_period: int = 0
    retries: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What the image config says; empty where the stage does not say it, and then inherited."""

    user: str = ""
    workdir: str = ""
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    ports: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    stop_signal: str = ""
    healthcheck: Healthcheck | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A stage as its file says it; ``file`` is relative to the project."""

    name: str
    file: str
    summary: str
    base: str = ""
    include: tuple[str, ...] = ()
    ships: bool = False
    image: str = ""
    debian: Debian | None = None
    apt: str = ""
    run: tuple[Run, ...] = ()
    wheels: tuple[str, ...] = ()
    models: Models | None = None
    copy: tuple[Copy, ...] = ()
    config: Config = Config()

    @property
    def folder(self) -> str:
        """The stage's folder, relative to the project."""
        return posixpath.dirname(self.file)


_TEXT = Text()
_ABSOLUTE = Text(r"/[^\0]*", "an absolute path in the image")
_RELATIVE = Text(r"(?!/)[^\0]+", "a path in the repository")
_STAGE = Text(STAGE_NAME, "a stage name (lower case letters, digits, `.`, `_`, `-`)")
_ARGV = ListOf(_TEXT, least=1)
_NAME = Text(r"[a-z_][a-z0-9_-]*", "an account name")
_ID = Whole(1, 65533)
_SECONDS = Whole(0, 86400)

_USER = Table(
    {
        "name": Field(_NAME, "account and group name", required=True),
        "uid": Field(_ID, "user id", required=True),
        "gid": Field(_ID, "group id; the user id unless said"),
        "home": Field(_ABSOLUTE, "home folder; /home/NAME unless said"),
        "shell": Field(_ABSOLUTE, "login shell; /usr/sbin/nologin unless said"),
    }
)
_ROOT = Table(
    {
        "image": Field(
            Text(PINNED_IMAGE, "an image pinned by digest (NAME@sha256:...)"), "a registry image, by digest"
        ),
        "suite": Field(Text(r"[a-z0-9][a-z0-9.-]*", "a Debian suite"), "Debian suite, e.g. trixie"),
        "packages": Field(_RELATIVE, "apt list; its lock stands beside it as LIST.lock"),
        "variant": Field(Text(choices=VARIANTS), "mmdebstrap variant; minbase unless said"),
        "components": Field(ListOf(_TEXT, least=1), 'archive components; ["main"] unless said'),
        "exclude": Field(ListOf(_TEXT), "glob patterns of paths to leave out"),
        "drop-setuid": Field(Flag(), "clear every setuid and setgid bit"),
        "user": Field(ListOf(_USER), "accounts to add"),
    }
)
_MOUNT = Table(
    {
        "source": Field(_RELATIVE, "file or folder of the repository", required=True),
        "target": Field(_ABSOLUTE, "where the step sees it; must exist in the root", required=True),
    }
)
_RUN = Table(
    {
        "name": Field(_TEXT, "what people see"),
        "command": Field(_ARGV, "argument list"),
        "script": Field(_TEXT, "text for /bin/sh -eu -c"),
        "network": Field(Flag(), "whether the step may use the network; false unless said"),
        "env": Field(MapOf(_TEXT), "environment of this step alone"),
        "mount": Field(ListOf(_MOUNT), "read-only bind mounts"),
    }
)
_HEALTH = Table(
    {
        "test": Field(_ARGV, "argument list; exit code 0 means well", required=True),
        "interval": Field(_SECONDS, "seconds between two checks"),
        "timeout": Field(_SECONDS, "seconds until a check counts as failed"),
        "start-period": Field(_SECONDS, "seconds in which failures do not count"),
        "retries": Field(Whole(1, 100), "failures in a row until unhealthy"),
    }
)
_CONFIG = Table(
    {
        "user": Field(_TEXT, "user the container runs as"),
        "workdir": Field(_ABSOLUTE, "working directory"),
        "entrypoint": Field(_ARGV, "argument list"),
        "cmd": Field(_ARGV, "argument list"),
        "env": Field(MapOf(_TEXT), "environment variables"),
        "ports": Field(ListOf(Text(r"\d{1,5}(/(tcp|udp))?", "a port (8000 or 53/udp)")), "exposed ports"),
        "volumes": Field(ListOf(_ABSOLUTE), "volumes"),
        "labels": Field(MapOf(_TEXT, key_pattern=r"[a-zA-Z0-9][a-zA-Z0-9._/-]*"), "labels"),
        "stop-signal": Field(Text(r"SIG[A-Z0-9+-]+|\d+", "a signal"), "signal that stops the container"),
        "healthcheck": Field(_HEALTH, "health check"),
    }
)
_MODELS = Table(
    {
        "lock": Field(_RELATIVE, "models lock", required=True),
        "target": Field(_ABSOLUTE, "folder above the models' own folders; /models unless said"),
        "names": Field(ListOf(_TEXT), "which models; all of the lock unless said"),
    }
)
_COPY = Table(
    {
        "source": Field(_RELATIVE, "folder or file beside the stage file", required=True),
        "target": Field(_ABSOLUTE, "where it goes", required=True),
    }
)
STAGE = Table(
    {
        "summary": Field(_TEXT, "one line that says what the stage is", required=True),
        "from": Field(_STAGE, "stage whose root, layers and config this one inherits"),
        "include": Field(ListOf(_STAGE), "stages whose layers are added"),
        "ships": Field(Flag(), "whether `nox -s build` builds it; false unless said"),
        "root": Field(_ROOT, "the operating system, for a stage without `from`"),
        "apt": Field(Table({"packages": Field(_RELATIVE, "apt list", required=True)}), "packages on top"),
        "run": Field(ListOf(_RUN), "steps inside the root"),
        "wheels": Field(
            Table({"locks": Field(ListOf(_RELATIVE, least=1), "requirements locks", required=True)}),
            "Python packages",
        ),
        "models": Field(_MODELS, "model files"),
        "copy": Field(ListOf(_COPY), "files of the repository"),
        "config": Field(_CONFIG, "image config"),
    }
)


def stage_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a stage file."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "buildkit stage",
        "description": "One stage of the images: stages/NAME/stage.toml",
        **STAGE.schema(),
    }


def parse_stage(text: str, *, name: str, file: str) -> Stage:
    """Read a stage file; raises DefinitionError with every problem found."""
    problems: list[Problem] = []
    table = parse_toml(text, file)
    place = Place(file, problems)
    read = STAGE.read(table, place) or {}
    stage = _stage(read, place, name)
    if problems:
        raise DefinitionError.of(problems)
    return stage


def parse_toml(text: str, file: str) -> dict[str, Any]:
    """Any TOML text; raises DefinitionError naming file, line and column."""
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        reason = str(error) if isinstance(error, tomllib.TOMLDecodeError) else "nested too deeply"
        raise DefinitionError(f"{file}: not valid TOML: {reason}") from None


def _stage(read: dict[str, Any], place: Place, name: str) -> Stage:
    root = read.get("root")
    if root is not None and "from" in read:
        place.at("root").report("stands beside `from`", "a stage inherits its root or makes one")
    for key in ("run", "apt"):
        if key in read and root is None and "from" not in read:
            place.at(key).report("needs a root", "add `from` or `[root]`")
    return Stage(
        name=name,
        file=place.file,
        summary=read.get("summary", ""),
        base=read.get("from", ""),
        include=read.get("include", ()),
        ships=read.get("ships", False),
        image=(root or {}).get("image", ""),
        debian=_debian(root, place.at("root")) if root is not None else None,
        apt=read.get("apt", {}).get("packages", ""),
        run=tuple(_run(item, place.at("run").at(n)) for n, item in enumerate(read.get("run", ()))),
        wheels=read.get("wheels", {}).get("locks", ()),
        models=_models(read["models"], place.at("models")) if "lock" in read.get("models", {}) else None,
        copy=tuple(_copy(item, place.at("copy").at(n)) for n, item in enumerate(read.get("copy", ()))),
        config=_config(read.get("config", {}), place.at("config")),
    )


def _debian(root: dict[str, Any], place: Place) -> Debian | None:
    if "image" in root:
        for key in sorted(root.keys() - {"image"}):
            place.at(key).report("means nothing beside `image`")
        return None
    for key in ("suite", "packages"):
        if key not in root:
            place.at(key).report("is missing", "a root is `image`, or `suite` and `packages`")
    users = tuple(_user(item, place.at("user").at(n)) for n, item in enumerate(root.get("user", ())))
    known = {key: root[key] for key in ("variant", "components", "exclude", "drop_setuid") if key in root}
    return Debian(suite=root.get("suite", ""), packages=root.get("packages", ""), users=users, **known)


def _user(item: dict[str, Any], place: Place) -> User:
    name, uid = item.get("name", ""), item.get("uid", 1)
    user = User(name=name, uid=uid, gid=item.get("gid", uid), home=item.get("home", f"/home/{name}"))
    if any(":" in part or "\n" in part for part in (user.home, item.get("shell", ""))):
        place.report("home and shell must not hold `:` or a line break")
    return replace(user, shell=item["shell"]) if "shell" in item else user


def _run(item: dict[str, Any], place: Place) -> Run:
    if ("command" in item) == ("script" in item):
        place.report("needs either `command` or `script`")
    command = item.get("command") or ("/bin/sh", "-eu", "-c", item.get("script", ""))
    mounts = tuple(Mount(source=m["source"], target=m["target"]) for m in item.get("mount", ()) if len(m) == 2)
    return Run(
        name=item.get("name") or " ".join(command[-1].split())[:60],
        command=command,
        network=item.get("network", False),
        env=item.get("env", ()),
        mounts=mounts,
    )


def _models(item: dict[str, Any], place: Place) -> Models:
    models = Models(**item)
    check_target(models.target, place.at("target"))
    return models


def _copy(item: dict[str, Any], place: Place) -> Copy:
    copy = Copy(source=item.get("source", "."), target=item.get("target", "/"))
    check_target(copy.target, place.at("target"))
    if ".." in copy.source.split("/"):
        place.at("source").report("must stay below the stage's folder")
    return copy


def check_target(target: str, place: Place) -> None:
    """Refuse folders that a layer must not own: those that Debian links or the runtime mounts."""
    clean = posixpath.normpath(target).strip("/")
    if ".." in target.split("/"):
        place.report(f"`{target}` must not hold `..`")
    for reserved in _RESERVED:
        if clean == reserved or clean.startswith(f"{reserved}/"):
            place.report(f"`{target}` is below /{reserved}", "use a folder such as /app, /opt or /usr/lib")


def _config(read: dict[str, Any], place: Place) -> Config:
    health = read.pop("healthcheck", None)
    if health is not None and "test" in health:
        read = {**read, "healthcheck": Healthcheck(**health)}
    for number, port in enumerate(read.get("ports", ())):
        if not 1 <= int(port.split("/")[0]) <= 65535:
            place.at("ports").at(number).report(f"{port} is not a port")
    return Config(**read)
