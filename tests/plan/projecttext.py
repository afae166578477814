"""Small projects rendered as files, in any style of TOML."""

from __future__ import annotations

import os
from copy import deepcopy
from pathlib import Path
from typing import Any

from smallproject import File, Small, sha
from tomlstyles import Style

from buildkit.declare.apt_archives import parse_archives, parse_public_key
from buildkit.declare.apt_sources import render_sources
from buildkit.declare.lock_choice import LockChoice
from buildkit.declare.project import parse_project
from buildkit.declare.schema import ValueLocation
from buildkit.digest import Digest, FileHash
from buildkit.locks.choice_inputs import choice_inputs
from buildkit.locks.freshness import apt_inputs, models_inputs, render_header, requirements_inputs, wheels_inputs
from buildkit.locks.images_lock import IMAGES_LOCK, ImageContents, LockedImage, render_images_lock


def render(small: Small, style: Style) -> dict[str, File]:
    """Every file of the checkout by path, in the order in which they are to be made; the locks are fresh."""
    found: dict[str, str] = {
        "pyproject.toml": style.document({"project": {"name": "x"}, "tool": {"buildkit": small.settings}}),
        ".containerignore": "".join(f"{line}\n" for line in _with_comments(small.ignored, style)),
    }
    for name, stage in small.stages.items():
        found[f"stages/{name}/stage.toml"] = style.document(_with_explicit_defaults(stage, style))
    if "suite" in small.root:
        _render_apt(small, style, found)
    elif "image" in small.root:
        found[IMAGES_LOCK] = _render_image(small.root["image"])
    _render_wheels(small, style, found)
    asked = [
        {
            "name": model["name"],
            "source": model["source"],
            **({"files": ["*"]} if model["source"].startswith("pypi:") else {}),
        }
        for model in small.models
        if "derived" not in model
    ]
    found["requirements/models.toml"] = style.document({"model": asked})
    inputs = models_inputs(found["requirements/models.toml"])
    lock = small.stages["weights"]["models"]["lock"]
    found[lock] = _header(inputs, style) + style.document({"model": _in_any_order(small.models, style)})
    files = small.files | {name: File(text) for name, text in found.items()}
    return {name: files[name] for name in style.shuffled(sorted(files))}


def lay(folder: Path, files: dict[str, File]) -> None:
    """Write the files."""
    for name, (text, kind) in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == "link":
            path.symlink_to(text)
        else:
            path.write_bytes(text.encode())
            os.chmod(path, 0o755 if kind == "exec" else 0o644)  # noqa: PTH101 - many


def _header(inputs: FileHash, style: Style) -> str:
    return style.pick("", "", "# why\n", "\n") + render_header(inputs)


def _with_comments(lines: list[str], style: Style) -> list[str]:
    return [line for each in lines for line in ([style.comment()] if style.chance(0.3) else []) + [each]]


def _in_any_order(models: list[dict[str, Any]], style: Style) -> list[dict[str, Any]]:
    return [model | {"file": style.shuffled(model["file"])} for model in style.shuffled(models)]


def _with_explicit_defaults(stage: dict[str, Any], style: Style) -> dict[str, Any]:
    """Return an equal stage with some defaults written out, and some scripts as their commands."""
    result = deepcopy(stage)
    debian = result.get("root", {})
    if "suite" in debian:
        defaults = {"variant": "minbase", "components": ["main"], "exclude": [], "drop-setuid": False, "user": []}
        debian |= {key: value for key, value in defaults.items() if key not in debian and style.chance(0.3)}
        for user in debian.get("user", ()):
            defaults = {"gid": user["uid"], "home": f"/home/{user['name']}", "shell": "/usr/sbin/nologin"}
            user |= {key: value for key, value in defaults.items() if key not in user and style.chance(0.3)}
    for step in result.get("run", ()):
        if "script" in step and style.chance(0.3):
            step["command"] = ["/bin/sh", "-eu", "-c", step.pop("script")]
        if "network" not in step and style.chance(0.3):
            step["network"] = False
    if "models" in result and "target" not in result["models"] and style.chance(0.3):
        result["models"]["target"] = "/models"
    if style.chance(0.3):
        result.setdefault("ships", False)
    return result


def _render_image(name: str) -> str:
    """Return the lock of a root's image, which has no packages of Python."""
    digest = Digest.parse(name.partition("@")[2]) if "@" in name else Digest.of(name.encode())
    platforms = {"linux/amd64": digest, "linux/arm64": digest}
    contents = {arch: ImageContents(id="debian") for arch in ("amd64", "arm64")}
    image = LockedImage(name=name, digest=digest, locked="now", platforms=platforms, contents=contents)
    return render_images_lock({name: image})


def _render_apt(small: Small, style: Style, found: dict[str, str]) -> None:
    root = small.root
    archives = parse_archives(root, ValueLocation("", [])).with_keys(
        lambda file: parse_public_key(file, small.files[file].text)
    )
    arch = parse_project(found["pyproject.toml"], Path("/nowhere")).target.deb_arch
    components = tuple(root.get("components", ["main"]))
    sources = render_sources(root["suite"], components, archives, arch)
    settings = {
        "suite": root["suite"],
        "variant": root.get("variant", "minbase"),
        "components": ",".join(components),
        "arch": arch,
        **({"sources": sources} if sources else {}),
    }
    base = ""
    names = (root["packages"], small.stages["builder"]["apt"]["packages"])
    for name, pins in zip(names, small.apts.values(), strict=True):
        listed = style.shuffled([style.pick("", "  ") + pin + style.pick("", " # why") for pin in pins])
        found[name] = "\n".join(_with_comments(listed, style)) + style.pick("\n", "")
        lines = style.shuffled([f"{pin}={version}{style.pick('', ' ', ' # why')}" for pin, version in pins.items()])
        text = "".join(f"{line}\n" for line in _with_comments(lines, style))
        found[f"{name}.lock"] = _header(apt_inputs(found[name], base=base, **settings), style) + text
        base = found[f"{name}.lock"]


def _render_wheels(small: Small, style: Style, found: dict[str, str]) -> None:
    project = parse_project(found["pyproject.toml"], Path("/nowhere"))
    target = project.target

    def read(path: str) -> str | None:
        return found[path] if path in found else small.files[path].text if path in small.files else None

    words = {"python": target.python, "glibc": target.glibc, "arch": target.arch}
    for lock, artifacts in small.wheels.items():
        document = style.document({"target": words, "artifact": style.shuffled(artifacts)})
        if lock == "uv.lock":
            found[lock] = "\n".join(style.shuffled([entry.get("sha256", "") for entry in artifacts]))
            choice = _choice(small.stages["deps"]["wheels"])
            found[choice.id] = _header(choice_inputs(choice, read, target), style) + document
            continue
        stem = lock.removesuffix(".txt")
        wanted = [entry.get("path") or entry["name"] for entry in artifacts]
        found[f"{stem}.in"] = "\n".join(_with_comments(style.shuffled(wanted), style)) + style.pick("\n", "")
        inputs = requirements_inputs(f"{stem}.in", read, target, locker=project.locker)
        body = "".join(f"{line}\n" for entry in style.shuffled(artifacts) for line in _pin(entry, style))
        found[lock] = _header(inputs, style) + body
        found[f"{stem}.wheels.toml"] = _header(wheels_inputs(body, target), style) + document


def _choice(table: dict[str, Any]) -> LockChoice:
    settings = {key.replace("-", "_"): value for key, value in table.items() if key != "locks"}
    named = {key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()}
    return LockChoice(file="uv.lock", **named)


def _pin(entry: dict[str, Any], style: Style) -> list[str]:
    """A pin as uv and pip-compile write it: the hash of the file that is wanted, and that of another."""
    via = [style.pick("    # via -r x.in", "    # via", "")]
    if "path" in entry:
        return [entry["path"], *via]
    hashes = style.shuffled([entry["sha256"], sha("another file", entry["name"])])
    lines = [f"{entry['name']}=={entry['version']}", *(f"    --hash=sha256:{digits}" for digits in hashes)]
    joint = " " if style.chance(0.2) else style.pick(" ", "  ") + "\\\n"
    return [joint.join(lines), *via]
