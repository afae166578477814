"""The setting by which the user's tools see the image store: written into storage.conf once, and taken back.

Comments and everything else in the file stay. A new file names what the tools demand beside it: the driver, and root's
two folders. See containers-storage.conf(5); what holds for which version is in docs/decisions/033-delivery-settings.md.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from buildkit.declare.toml import edit_toml, find_table, parse_toml
from buildkit.errors import BuildError, ToolError
from buildkit.tools.process import Command, find_tool, run
from buildkit.tools.storage_settings import ROOTS, find_settings_file, listed_stores, read_settings

DRIVER = "overlay"
_KEY = ("storage", "options", "additionalimagestores")
_ETC, _DISTRIBUTION = Path("/etc/containers/storage.conf"), Path("/usr/share/containers/storage.conf")
_IMPORTED = "images are imported, as before; nox -s doctor says what that costs"
_USERS = f"""# What podman, buildah and skopeo use as storage; see containers-storage.conf(5).
[storage]
driver = "{DRIVER}"
"""
_ROOTS = _USERS + "".join(f'{name} = "{folder}"\n' for name, folder in ROOTS.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingChange:
    """A change of ``file``: its text before and after (None: there is no file), and ``lines`` that describe it."""

    file: Path
    before: str | None
    after: str | None
    lines: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.before != self.after


def plan_enabling(store: Path) -> SettingChange:
    """Return the change after which the user's tools see a store.

    Raises BuildError if they could not: storage.conf cannot be read or edited, or the driver is none that takes stores.
    """
    path = _target()
    before = _read(path)
    text = _new_text() if before is None else before
    driver = _storage(before or "").get("driver")
    if (chosen := os.environ.get("STORAGE_DRIVER") or _storage(text).get("driver", DRIVER)) != DRIVER:
        raise BuildError(f"{path}: images are kept by `{chosen}`, which cannot use an image store", hint=_IMPORTED)
    if driver is None and _uses_vfs():
        raise BuildError(f"podman or buildah keeps its images by `vfs`, which `{DRIVER}` would hide", hint=_IMPORTED)
    for name, value in {"driver": DRIVER, **(ROOTS if os.geteuid() == 0 else {})}.items():
        if name not in _storage(text):
            text = _edit(path, text, ("storage", name), value)
    lines = [f"{name} = {value}" for name, value in _storage(text).items() if name not in _storage(before or "")]
    if str(store) not in listed_stores(parse_toml(text, "")):
        text = _edit(path, text, _KEY, [*_stores(text), str(store)])
        lines.append(f"{_KEY[-1]} += {store}")
    return SettingChange(file=path, before=before, after=text, lines=tuple(lines))


def plan_disabling(store: Path) -> SettingChange:
    """Return the change after which the user's tools do not see a store; raises BuildError."""
    path = _target()
    before = _read(path)
    if before is None or str(store) not in listed_stores(read_settings(path)):
        return SettingChange(file=path, before=before, after=before)
    rest = [other for other in _stores(before) if os.path.normpath(other) != str(store)]
    after: str | None = _edit(path, before, _KEY, rest or None)
    lines = [f"{_KEY[-1]} -= {store}"]
    if path == _ETC and after is not None and after.strip() == _new_text().strip():
        after, lines = None, [*lines, "and then the file, which says nothing any more"]
    return SettingChange(file=path, before=before, after=after, lines=tuple(lines))


def write_setting(change: SettingChange) -> None:
    """Make a change. Raises BuildError if the file cannot be written; then it is as it was."""
    _write(change.file, change.after)


def try_setting(change: SettingChange, store: Path) -> None:
    """Make a change, and ask the tools whether they see the store now; else the file becomes what it was.

    Raises BuildError.
    """
    _write(change.file, change.after)
    try:
        _check_tools(store)
    except BaseException as error:
        _write(change.file, change.before)
        if not isinstance(error, ToolError):
            raise
        raise BuildError(f"{error.message}; {change.file} is as it was", hint=_IMPORTED, output=error.output) from error


def _target() -> Path:
    """Return the file to change: the effective one, but of the distribution's a copy."""
    found = find_settings_file()
    if found is not None and found != _DISTRIBUTION:
        return found
    if os.geteuid() == 0:
        return _ETC
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "containers/storage.conf"


def _read(path: Path) -> str | None:
    """Return the text of a storage.conf that is TOML; None if there is none. Raises BuildError."""
    if not path.exists():
        return None
    read_settings(path)
    return path.read_bytes().decode()  # line ends stay


def _new_text() -> str:
    """Return the text of a new file, by which nothing changes."""
    if os.geteuid() != 0:
        return _USERS
    return _DISTRIBUTION.read_text("utf-8") if _DISTRIBUTION.exists() else _ROOTS


def _uses_vfs() -> bool:
    """Return whether the tools took vfs by themselves, as older ones do for ordinary users; podman then insists on it.

    They are not asked, because a first question makes them choose.
    """
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share"
    storage = Path(data, "containers/storage") if os.geteuid() else Path(ROOTS["graphroot"])
    return (storage / "vfs-images").exists() and not (storage / f"{DRIVER}-images").exists()


def _storage(text: str) -> dict[str, Any]:
    """Return the keys of the table [storage] itself."""
    table = find_table(parse_toml(text, ""), "storage")
    return {name: value for name, value in table.items() if not isinstance(value, dict)}


def _stores(text: str) -> Any:  # noqa: ANN401 - as it was written
    return find_table(parse_toml(text, ""), *_KEY[:-1]).get(_KEY[-1], [])


def _edit(path: Path, text: str, names: tuple[str, ...], value: object) -> str:
    try:
        return edit_toml(text, names, value)
    except ValueError as error:
        hint = f"write into its table [{'.'.join(names[:-1])}]: {names[-1]} = {json.dumps(value)}"
        raise BuildError(f"{path}: {error}", hint=hint) from error


def _write(path: Path, text: str | None) -> None:
    """Replace a file, or remove it, at once; a link stays a link, and mode and owner stay. Raises BuildError."""
    real = Path(os.path.realpath(path))
    new = real.with_name(f".{real.name}.{os.getpid()}")
    try:
        if text is None:
            real.unlink(missing_ok=True)
            return
        real.parent.mkdir(parents=True, exist_ok=True)
        new.write_text(text, "utf-8")
        with suppress(FileNotFoundError):
            status = real.stat()
            new.chmod(status.st_mode & 0o7777)
            os.chown(new, status.st_uid, status.st_gid)
        new.replace(real)
    except OSError as error:
        with suppress(OSError):
            new.unlink()
        raise BuildError(f"{path} cannot be written: {error.strerror}", hint="nothing is changed") from error


def _check_tools(store: Path) -> None:
    """Ask podman and buildah; raises ToolError if one of them fails now, or does not see the store."""
    if find_tool("podman") is not None:
        run(Command(argv=("podman", "info"), what="podman with the image store"))
    answer = json.loads(run(Command(argv=("buildah", "info"), what="buildah with the image store")).text)
    options = answer["store"].get("GraphOptions") or ()
    if f"{DRIVER}.imagestore={store}" not in options:
        raise ToolError("buildah does not see the image store", output=json.dumps(answer["store"], indent=1))
