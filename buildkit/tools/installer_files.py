"""The configuration files of pip and uv, found and read as they do: raw tables, without what their keys mean."""

from __future__ import annotations

import configparser
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from buildkit.declare.toml import find_table, parse_toml
from buildkit.errors import DefinitionError, Problem

_ETC = Path("/etc")


def pip_config_files(env: Mapping[str, str]) -> list[Path]:
    """Return the files that pip reads, each overriding those before it; they need not exist."""
    named = env.get("PIP_CONFIG_FILE", "")
    if named == os.devnull:
        return []
    user, system = _config_homes(env)
    files = [*(folder / "pip/pip.conf" for folder in reversed(system)), _ETC / "pip.conf"]
    if not (named and Path(named).exists()):
        files += [home_folder(env) / ".pip/pip.conf", user / "pip/pip.conf"]
    files.append(Path(sys.prefix) / "pip.conf")
    return [*files, Path(named)] if named else files


def load_pip_file(file: Path) -> dict[str, dict[str, str]]:
    """Return keys and values by section; none for a missing or unreadable file."""
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(file.read_text("utf-8-sig"))
    except (FileNotFoundError, NotADirectoryError, PermissionError, IsADirectoryError):
        return {}
    except (configparser.Error, UnicodeDecodeError) as error:
        what = f"pip's configuration cannot be read: {str(error).splitlines()[0]}"
        raise DefinitionError.of([Problem(file=str(file), what=what)]) from None
    return {
        section: {key.replace("_", "-"): value for key, value in parser.items(section)}
        for section in ("global", "install")
        if parser.has_section(section)
    }


def load_uv_files(root: Path, env: Mapping[str, str]) -> list[tuple[Path, Mapping[str, Any]]]:
    """Return uv's files, the strongest first: named or project's, user's, system's."""
    user, system = _config_homes(env)
    shared = [user / "uv/uv.toml", *(folder / "uv/uv.toml" for folder in system), _ETC / "uv/uv.toml"]
    if named := env.get("UV_CONFIG_FILE"):
        return [found for found in (_uv_file(Path(named)),) if found]
    project = [found for folder in (root, *root.parents) for found in (_uv_project(folder),) if found]
    return project[:1] + [found for found in map(_uv_file, shared) if found]


def _uv_project(folder: Path) -> tuple[Path, Mapping[str, Any]] | None:
    if found := _uv_file(folder / "uv.toml"):
        return found
    file = folder / "pyproject.toml"
    tool = find_table(parse_toml(file.read_text("utf-8"), str(file)), "tool") if file.is_file() else {}
    return (file, find_table(tool, "uv")) if "uv" in tool else None


def _uv_file(file: Path) -> tuple[Path, Mapping[str, Any]] | None:
    return (file, parse_toml(file.read_text("utf-8"), str(file))) if file.is_file() else None


def load_uv_table(root: Path, env: Mapping[str, str]) -> Mapping[str, Any]:
    """Load the settings that uv reads for the checkout ``root`` before the user's and the system's, as a table."""
    if env.get("UV_CONFIG_FILE"):
        return load_uv_files(root, env)[0][1] if load_uv_files(root, env) else {}
    if is_true(env.get("UV_NO_CONFIG", "")):
        return {}
    found = (_uv_project(folder) for folder in (root, *root.parents))
    return next((table for _, table in filter(None, found)), {})


def load_uv_tables(root: Path, env: Mapping[str, str]) -> tuple[Mapping[str, Any], ...]:
    """Load all tables of settings that uv reads for the checkout ``root``, the strongest first."""
    return () if is_true(env.get("UV_NO_CONFIG", "")) else tuple(table for _, table in load_uv_files(root, env))


def is_true(word: str) -> bool:
    """Return whether a setting's word means yes, as pip and uv read it."""
    return word.strip().lower() in {"1", "true", "yes", "on", "t", "y"}


def home_folder(env: Mapping[str, str]) -> Path:
    """Return the user's folder."""
    return Path(env["HOME"]) if env.get("HOME") else Path.home()


def _config_homes(env: Mapping[str, str]) -> tuple[Path, list[Path]]:
    user = Path(env.get("XDG_CONFIG_HOME") or home_folder(env) / ".config")
    system = [Path(path) for path in (env.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":") if path]
    return user, system
