"""Stage files (``stages/NAME/stage.toml``): text to a Stage, with every problem reported at once."""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from buildkit.declare.apt_archives import USUAL, parse_archives
from buildkit.declare.containerfile_root import parse_containerfile_root
from buildkit.declare.framework import parse_framework
from buildkit.declare.gpu_request import check_gpu_variables, parse_gpu_request
from buildkit.declare.lock_choice import LockChoice, find_kind
from buildkit.declare.paths import check_target, is_outside
from buildkit.declare.schema import ValueLocation
from buildkit.declare.serve_settings import parse_serving
from buildkit.declare.stage import Config, Copy, Debian, Healthcheck, Models, Mount, Run, Running, Stage, User
from buildkit.declare.stage_schema import STAGE, STAGE_NAME, STAGE_NAME_WORDS, WITH_IMAGE
from buildkit.declare.toml import parse_toml
from buildkit.declare.written_secrets import check_variables
from buildkit.errors import DefinitionError, Problem


def stage_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a stage file."""
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
    place = ValueLocation(file, problems)
    if not re.fullmatch(STAGE_NAME, name):
        place.report(f"the folder's name `{name}` is not {STAGE_NAME_WORDS}", "images are named after it")
    read = STAGE.read(table, place) or {}
    stage = _stage(read, place, name)
    _check_secrets(stage, place)
    if stage.gpu:
        check_gpu_variables(dict(stage.config.env), place.at("config").at("env"))
    if problems:
        raise DefinitionError.of(problems)
    return stage


def _check_secrets(stage: Stage, place: ValueLocation) -> None:
    """Report secrets in variables and arguments, which an image and its history show."""
    check_variables(stage.config.env, place.at("config").at("env"))
    for number, step in enumerate(stage.run):
        check_variables(step.env, place.at("run").at(number).at("env"))
    if stage.containerfile:
        check_variables(stage.containerfile.args, place.at("root").at("args"))


def _stage(read: dict[str, Any], place: ValueLocation, name: str) -> Stage:
    root = read.get("root")
    if root is not None and "from" in read:
        place.at("root").report("conflicts with `from`", "a stage either inherits its root or makes one")
    for key in ("run", "apt"):
        if key in read and root is None and "from" not in read:
            place.at(key).report("needs a root", "add `from` or `[root]`")
    choices = _choices(read.get("wheels", {}), place.at("wheels"))
    chosen = {choice.file: choice.id for choice in choices}
    return Stage(
        name=name,
        file=place.file,
        summary=read.get("summary", ""),
        base=read.get("from", ""),
        include=read.get("include", ()),
        ships=read.get("ships", False),
        sbom=read.get("sbom", False),
        image=(root or {}).get("image", ""),
        image_archives=parse_archives(root, place.at("root")) if root and "image" in root else USUAL,
        debian=_debian(root, place.at("root")) if root is not None else None,
        containerfile=parse_containerfile_root(root, place.at("root")) if root is not None else None,
        apt=read.get("apt", {}).get("packages", ""),
        args=read.get("args", ()),
        run=tuple(_run(item, place.at("run").at(n)) for n, item in enumerate(read.get("run", ()))),
        wheels=tuple(chosen.get(posixpath.normpath(lock), lock) for lock in read.get("wheels", {}).get("locks", ())),
        choices=choices,
        prefer=tuple(_normalised(name) for name in read.get("wheels", {}).get("prefer", ())),
        models=_models(read["models"], place.at("models")) if "models" in read else None,
        mount_models=read.get("models", {}).get("mount"),
        copy=tuple(
            copy for n, item in enumerate(read.get("copy", ())) for copy in _copies(item, place.at("copy").at(n))
        ),
        config=_config(read.get("config", {}), place.at("config")),
        framework=parse_framework(read.get("framework"), place.at("framework")),
        running=Running(**read["running"]) if "running" in read else None,
        gpu=parse_gpu_request(read.get("gpu"), place.at("gpu")),
        serve=parse_serving(read.get("serve"), place.at("serve")),
    )


def _choices(wheels: dict[str, Any], place: ValueLocation) -> tuple[LockChoice, ...]:
    """Return what is taken from locks of other tools; a requirements lock is taken whole."""
    settings = {key: value for key, value in wheels.items() if key not in ("locks", "prefer")}
    names = {key: tuple(sorted(set(value))) for key, value in settings.items() if isinstance(value, tuple)}
    choices = tuple(
        LockChoice(file=posixpath.normpath(lock), **{**settings, **names})
        for lock in wheels.get("locks", ())
        if find_kind(lock)
    )
    for lock in wheels.get("locks", ()):
        if lock.endswith((".toml", ".lock")) and not find_kind(lock):
            place.at("locks").report(
                f"`{lock}` is not a lock that can be read",
                "name a requirements lock, uv.lock, poetry.lock or pylock.toml; in a .in, ./ is the project itself",
            )
    for key in sorted(settings) if not choices else ():
        place.at(key.replace("_", "-")).report("has no effect on requirements locks", "it chooses from a uv.lock")
    if "package" in settings and choices and all(choice.kind != "uv" for choice in choices):
        place.at("package").report("has no effect: only a uv.lock has members of a workspace")
    if "only_groups" in settings:
        for key in sorted(settings.keys() & {"extras", "groups", "project"}):
            place.at(key).report("has no effect with `only-groups`")
    return choices


def _debian(root: dict[str, Any], place: ValueLocation) -> Debian | None:
    if "image" in root:
        for key in sorted(root.keys() - {"image", *WITH_IMAGE}):
            place.at(key.replace("_", "-")).report("has no effect with `image`")
        return None
    if "containerfile" in root or place.at("image").faulty or place.at("containerfile").faulty:
        return None
    for key in ("suite", "packages"):
        if key not in root and not place.at(key).faulty:
            place.at(key).report("is missing", "a root is `image`, `containerfile`, or `suite` and `packages`")
    users = tuple(_user(item, place.at("user").at(n)) for n, item in enumerate(root.get("user", ())))
    for what in ("name", "uid"):
        values = [getattr(user, what) for user in users]
        for twice in sorted(value for value, count in Counter(values).items() if count > 1):
            place.at("user").report(f"two accounts have the {what} {twice}")
    known = {key: root[key] for key in ("variant", "components", "exclude", "drop_setuid") if key in root}
    listed = root.get("exclude_file", "")
    listed = posixpath.normpath(posixpath.join(posixpath.dirname(place.file), listed)) if listed else ""
    return Debian(
        suite=root.get("suite", ""),
        packages=root.get("packages", ""),
        users=users,
        exclude_file=listed,
        archives=parse_archives(root, place),
        **known,
    )


def with_patterns(stage: Stage, text: str) -> Stage:
    """Return the stage with the patterns of its ``exclude-file``: one a line, before those of ``exclude``."""
    assert stage.debian is not None  # noqa: S101 - only a root has such a file
    lines = (line.partition(" #")[0].strip() for line in text.splitlines())
    patterns = tuple(line for line in lines if line and not line.startswith("#"))
    return replace(stage, debian=replace(stage.debian, exclude=(*patterns, *stage.debian.exclude)))


def _user(item: dict[str, Any], place: ValueLocation) -> User:
    name, uid = item.get("name", ""), item.get("uid", 1)
    user = User(name=name, uid=uid, gid=item.get("gid", uid), home=item.get("home", f"/home/{name}"))
    if any(":" in part or "\n" in part for part in (user.home, item.get("shell", ""))):
        place.report("home and shell must not hold `:` or a line break")
    return replace(user, shell=item["shell"]) if "shell" in item else user


def _run(item: dict[str, Any], place: ValueLocation) -> Run:
    faulty = place.at("command").faulty or place.at("script").faulty
    if ("command" in item) == ("script" in item) and not faulty:
        place.report("needs either `command` or `script`")
    command = item.get("command") or ("/bin/sh", "-eu", "-c", item.get("script", ""))
    mounts = tuple(Mount(source=m["source"], target=m["target"]) for m in item.get("mount", ()) if len(m) == 2)
    return Run(
        name=item.get("name") or " ".join(command[-1].split())[:60],
        command=command,
        network=item.get("network", False),
        env=item.get("env", ()),
        mounts=mounts,
        secrets=tuple(sorted(set(item.get("secrets", ())))),
    )


def _models(item: dict[str, Any], place: ValueLocation) -> Models | None:
    own = {key: value for key, value in item.items() if key != "mount"}
    if "lock" not in own:
        if (own or not item) and not place.at("lock").faulty:
            place.at("lock").report("is missing", "models lock")
        return None
    models = Models(**own)
    check_target(models.target, place.at("target"))
    return models


def _normalised(name: str) -> str:
    """Return a project's name as locks write it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _copies(item: dict[str, Any], place: ValueLocation) -> Iterator[Copy]:
    """Yield a copy of each source; several sources keep their names, as with `cp`."""
    source, target = item.get("source", "."), item.get("target", "/")
    several = not isinstance(source, str)
    for number, each in enumerate(source if several else (source,)):
        name = posixpath.basename(posixpath.normpath(each))
        if several and name in ("", ".", ".."):
            place.at("source").at(number).report(f"`{each}` has no name to keep", "give it a [[copy]] of its own")
        below = each.lstrip("/") if each.startswith("/") else posixpath.join(posixpath.dirname(place.file), each)
        if is_outside(below):
            place.at("source").report(f"`{each}` leads out of the repository")
        copy = Copy(
            source=each,
            target=posixpath.join(target, name) if several else target,
            untracked=item.get("untracked", False),
        )
        check_target(copy.target, place.at("target"))
        yield copy


def _config(read: dict[str, Any], place: ValueLocation) -> Config:
    health = read.pop("healthcheck", None)
    if health is not None and "test" in health:
        read = {**read, "healthcheck": Healthcheck(**health)}
    for number, port in enumerate(read.get("ports", ())):
        if not 1 <= int(port.split("/")[0]) <= 65535:
            place.at("ports").at(number).report(f"{port} is not a port")
    return Config(**read)
