"""The layer of ``xoe_runtime``: a module that sets frameworks as the stage says, and its settings beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files

from buildkit.layers.tar.member import Member

MODULE = "xoe_runtime"
SETTINGS = "settings.json"


@cache
def module_files() -> Mapping[str, str]:
    """Return the text of the module's files by name, without its settings."""
    found = (file for file in files(f"buildkit.{MODULE}").iterdir() if file.name.endswith((".py", ".typed")))
    return {file.name: file.read_text("utf-8") for file in sorted(found, key=lambda file: file.name)}


def layer_texts(settings: str) -> dict[str, str]:
    """Return the files of the layer by name; ``settings`` is their JSON."""
    return {**module_files(), SETTINGS: f"{settings}\n"}


def framework_members(folder: str, settings: str) -> Iterator[Member]:
    """Yield the files below ``folder``, an absolute path in the image, sorted."""
    for name, text in sorted(layer_texts(settings).items()):
        yield _member(f"{folder.strip('/')}/{name}", text.encode())


def _member(path: str, data: bytes) -> Member:
    return Member(path=path, size=len(data), content=lambda: iter((data,)))
