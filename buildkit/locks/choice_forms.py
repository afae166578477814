"""Which kinds of files the settings next to a lock of another tool allow: ``no-binary`` of uv and of Poetry.

uv reads ``no-binary``, ``no-binary-package``, ``no-build`` and ``no-build-package`` of ``uv.toml``, else of
``[tool.uv]`` (https://docs.astral.sh/uv/reference/settings/); Poetry ``no-binary`` and ``only-binary`` of
``[installer]`` in ``poetry.toml`` (https://python-poetry.org/docs/configuration/#installerno-binary).
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from buildkit.declare.lock_choice import LockChoice
from buildkit.declare.toml import Table, find_table, parse_toml
from buildkit.locks.file_forms import FileForms
from buildkit.locks.requirement_inputs import Read


def find_form_options(choice: LockChoice, read: Read) -> tuple[str, ...]:
    """Return the settings as options of pip (``--no-binary NAME``), those for all first. Raises DefinitionError."""
    found = dict.fromkeys({"uv": _of_uv, "poetry": _of_poetry}.get(choice.kind, _of_none)(choice, read))
    return tuple(sorted(found, key=lambda option: not option.endswith(":all:")))


def make_forms(options: tuple[str, ...]) -> FileForms:
    """Return which kinds of files the options allow."""
    forms = FileForms()
    for option in options:
        forms.read(option)
    return forms


def _of_none(_choice: LockChoice, _read: Read) -> Iterator[str]:
    yield from ()


def _of_uv(choice: LockChoice, read: Read) -> Iterator[str]:
    settings = _read(choice, "uv.toml", read)
    if settings is None:
        settings = find_table(_read(choice, "pyproject.toml", read) or {}, "tool", "uv")
    for key, option in (("no-binary", "--no-binary"), ("no-build", "--only-binary")):
        yield from _options(option, settings.get(key))
        yield from _options(option, settings.get(f"{key}-package"))


def _of_poetry(choice: LockChoice, read: Read) -> Iterator[str]:
    settings = find_table(_read(choice, "poetry.toml", read) or {}, "installer")
    for key in ("no-binary", "only-binary"):
        yield from _options(f"--{key}", settings.get(key))


def _options(option: str, value: object) -> Iterator[str]:
    """Yield an option for each name of a setting: true, a list, or names separated by commas."""
    words = [":all:"] if value is True else value.split(",") if isinstance(value, str) else value
    for word in words if isinstance(words, list) else ():
        if name := str(word).strip():
            yield f"{option} {name}"


def _read(choice: LockChoice, name: str, read: Read) -> Table | None:
    file = posixpath.join(choice.folder, name)
    text = read(file)
    return None if text is None else parse_toml(text, file)
