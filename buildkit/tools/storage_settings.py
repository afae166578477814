"""Which image stores the tools of containers/storage see: containers-storage.conf(5), ``additionalimagestores``.

One file counts, and files are not merged: the one that ``CONTAINERS_STORAGE_CONF`` names, else the user's, for root
then the host's, then the distribution's. A user's tools take hardly anything from the host's, above all no stores.
"""

from __future__ import annotations

import os
import shlex
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from buildkit.declare.toml import find_table
from buildkit.errors import BuildError

_VARIABLE = "CONTAINERS_STORAGE_CONF"
_NAME = "containers/storage.conf"
_HOSTS = ("/etc/containers/storage.conf", "/usr/share/containers/storage.conf")
_KEY = "additionalimagestores"
ROOTS = {"graphroot": "/var/lib/containers/storage", "runroot": "/run/containers/storage"}  # root's defaults


def find_settings_file() -> Path | None:
    """Return the effective storage.conf; None if there is none, and every setting is its default."""
    if named := os.environ.get(_VARIABLE):
        return Path(named)
    config = os.environ.get("XDG_CONFIG_HOME")  # counts for root as well, but root's ~/.config does not
    if os.geteuid() == 0:
        places = (*((f"{config}/{_NAME}",) if config else ()), *_HOSTS)
    else:
        places = (f"{config or Path.home() / '.config'}/{_NAME}",)
    return next((Path(path) for path in places if os.path.exists(path)), None)  # noqa: PTH110 - every build


def read_settings(path: Path | None) -> dict[str, Any]:
    """Return the content of a storage.conf, empty for None. Raises BuildError if it cannot be one."""
    if path is None:
        return {}
    try:
        settings = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        hint = f"write it (containers-storage.conf(5)), or: unset {_VARIABLE}"
        raise BuildError(f"{_VARIABLE} names {path}, which does not exist", hint=hint) from error
    except OSError as error:
        raise BuildError(f"{path} cannot be read: {error.strerror}", hint=_mend(path)) from error
    except UnicodeDecodeError as error:
        raise BuildError(f"{path} is not UTF-8", hint=_mend(path)) from error
    except tomllib.TOMLDecodeError as error:
        raise BuildError(f"{path} is not TOML: {error}", hint=_mend(path)) from error
    if wrong := next(_wrong_types(settings), ""):
        raise BuildError(f"{path}: {wrong}", hint=_mend(path))
    return settings


def _mend(path: Path) -> str:
    return f"podman reads it, too; correct it: ${{EDITOR:-editor}} {shlex.quote(str(path))}"


def _wrong_types(settings: dict[str, Any]) -> Iterator[str]:
    """Yield what no tool could read, as far as it is read here."""
    storage = settings.get("storage", {})
    if not isinstance(storage, dict):
        yield "`storage` is not a table"
        return
    if not isinstance(storage.get("driver", ""), str):
        yield "`storage.driver` is not a string"
    options = storage.get("options", {})
    if not isinstance(options, dict):
        yield "`storage.options` is not a table"
        return
    stores = options.get(_KEY, [])
    if not isinstance(stores, list) or not all(isinstance(store, str) for store in stores):
        yield f"`{_KEY}` is not a list of paths"


def listed_stores(settings: dict[str, Any]) -> tuple[str, ...]:
    """Return the additional image stores of a storage.conf."""
    return tuple(map(os.path.normpath, find_table(settings, "storage", "options").get(_KEY, ())))


def check_stores(path: Path | None, settings: dict[str, Any], ours: Path | None = None) -> None:
    """Raise BuildError if a storage.conf names an image store that does not exist, other than ``ours``."""
    missing = [store for store in listed_stores(settings) if store != str(ours) and not os.path.exists(store)]  # noqa: PTH110
    if missing:
        raise BuildError(
            f"{path} names {missing[0]}, which does not exist: podman, buildah and skopeo fail",
            hint=f"mkdir -p {shlex.quote(missing[0])}, or take it out of `{_KEY}`",
        )


def check_settings() -> None:
    """Raise BuildError for settings with which the tools fail: it says more than they do."""
    path = find_settings_file()
    check_stores(path, read_settings(path))


def find_storage_hint(output: str) -> str:
    """Return the hint for what a tool says when it cannot open local storage; empty if it says something else."""
    path = find_settings_file()
    if path is None or "must be set" not in output:  # as in "runroot must be set"
        return ""
    return f"{path} lacks keys that these tools demand: nox -s doctor -- --enable-store adds them"


def is_listed(store: Path) -> bool:
    """Return whether the tools of this user see an image store without further ado.

    Raises BuildError for settings with which they fail.
    """
    path = find_settings_file()
    settings = read_settings(path)
    check_stores(path, settings, store)
    return str(store) in listed_stores(settings)


@contextmanager
def visible(store: Path, settings_file: Path) -> Iterator[None]:
    """Let programs that are started in the block see an image store, if they do not anyway.

    ``settings_file`` is then written: the effective settings, and the store. Raises BuildError.
    """
    settings = read_settings(find_settings_file())
    if str(store) in listed_stores(settings):
        yield
        return
    with _replaced(_with_store(settings, store), settings_file):
        yield


@contextmanager
def invisible(store: Path, settings_file: Path) -> Iterator[None]:
    """Let programs that are started in the block not see an image store: what they import would build on its layers.

    ``settings_file`` is written if they would see it. Raises BuildError.
    """
    settings = read_settings(find_settings_file())
    if str(store) not in listed_stores(settings):
        yield
        return
    with _replaced(_without_store(settings, store), settings_file):
        yield


@contextmanager
def _replaced(settings: dict[str, Any], settings_file: Path) -> Iterator[None]:
    _write(settings_file, settings)
    before = os.environ.get(_VARIABLE)
    os.environ[_VARIABLE] = str(settings_file)
    try:
        yield
    finally:
        if before is None:
            del os.environ[_VARIABLE]
        else:
            os.environ[_VARIABLE] = before


def _with_store(settings: dict[str, Any], store: Path) -> dict[str, Any]:
    storage = dict(find_table(settings, "storage"))
    options = dict(find_table(storage, "options"))
    options[_KEY] = [*listed_stores(settings), str(store)]
    defaults = ROOTS if os.geteuid() == 0 else {}
    return {**settings, "storage": {"driver": "overlay", **defaults, **storage, "options": options}}


def _without_store(settings: dict[str, Any], store: Path) -> dict[str, Any]:
    storage = dict(settings["storage"])
    options = dict(storage["options"])
    options[_KEY] = [path for path in options[_KEY] if os.path.normpath(path) != str(store)]
    return {**settings, "storage": {**storage, "options": options}}


def _write(path: Path, settings: dict[str, Any]) -> None:
    from buildkit.declare.toml import render_toml

    text = render_toml(settings)
    if path.exists() and path.read_text("utf-8") == text:
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, "utf-8")
    temporary.replace(path)
