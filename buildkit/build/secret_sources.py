"""Sources of the secrets of steps. The caller names them; the repository, which a pull request may change, never does.

A source is ``env:NAME`` or ``file:PATH``. In this order, it comes from ``--secret``, from the variable
``BUILDKIT_SECRET_NAME``, or from the user's own ``secrets.toml``, which lists sources by the folder of a repository:

    ["/home/me/app"]
    hf-token = "file:~/.config/hf/token"
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from buildkit.declare.schema import MapSchema, TextSchema, ValueLocation
from buildkit.declare.stage_schema import SECRET_NAME
from buildkit.declare.toml import parse_toml
from buildkit.errors import BuildError, DefinitionError, Problem
from buildkit.lazy_dataclass import dataclass
from buildkit.store.private_folder import find_writers, trusted_users

_PREFIX = "BUILDKIT_SECRET_"
_FILE = "xoe-buildkit/secrets.toml"
_SOURCES = MapSchema(
    TextSchema(r"env:[A-Za-z_][A-Za-z0-9_]*|file:(?:/|~)[^\0]*", "env:NAME, or file: with an absolute path"),
    key_pattern=SECRET_NAME,
)
_BY_FOLDER = MapSchema(_SOURCES, key_pattern=r"/[^\0]*")


@dataclass(frozen=True, kw_only=True)
class SecretSources:
    """The sources for the repository in ``folder``: those ``given`` by the command line, and what ``env`` leads to."""

    folder: Path
    given: Mapping[str, str]
    env: Mapping[str, str]

    def get(self, step: str, name: str) -> str:
        """Return the source of a step's secret; raises BuildError if the caller names none, and DefinitionError."""
        variable = secret_variable(name)
        source = self.given.get(name) or (f"env:{variable}" if self.env.get(variable) else self._configured.get(name))
        if source is None:
            raise BuildError(
                f"{step}: its secret `{name}` is missing",
                hint=f"give it: --secret id={name},src=FILE, or set {variable}, or name its source in {self._config}",
            )
        return source

    @property
    def _config(self) -> Path:
        home = Path(self.env.get("HOME") or Path.home())
        return Path(self.env.get("XDG_CONFIG_HOME") or home / ".config") / _FILE

    @cached_property
    def _configured(self) -> Mapping[str, str]:
        folder, path = os.path.realpath(self.folder), self._config
        try:
            text = path.read_text("utf-8")
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except (OSError, UnicodeDecodeError) as error:
            raise BuildError(f"{path}: cannot be read: {error}") from error
        if Path(os.path.realpath(path)).is_relative_to(folder):
            raise DefinitionError(
                f"{path}: is in the repository, which must not say where secrets are",
                hint="keep it in your own folder, and set XDG_CONFIG_HOME",
            )
        if writers := find_writers(str(path), path.stat(), trusted_users()):
            who, mend = writers
            raise BuildError(
                f"{path}: {who}, and could choose which files a step reads",
                hint=f"check it, and then: {mend} {shlex.quote(str(path))}",
            )
        problems: list[Problem] = []
        tables = _BY_FOLDER.read(parse_toml(text, str(path)), ValueLocation(str(path), problems))
        if problems:
            raise DefinitionError.of(problems)
        return {name: source for key, table in tables if os.path.realpath(key) == folder for name, source in table}


def secret_variable(name: str) -> str:
    """Return the variable of a secret: ``BUILDKIT_SECRET_HF_TOKEN`` of ``hf-token``."""
    return _PREFIX + name.upper().replace("-", "_")
