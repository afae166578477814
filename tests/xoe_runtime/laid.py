"""The module ``xoe_runtime`` as an image has it: the files of the layer of a stage, laid out and imported."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from buildkit.declare.stage_file import parse_stage
from buildkit.digest import canonical_json
from buildkit.layers.framework import framework_members
from buildkit.plan.framework_layer import framework_settings

Lay = Callable[[str], ModuleType]


def lay(folder: Path, settings: str) -> None:
    """Write the layer for ``[framework]`` settings, as TOML, below ``folder``."""
    stage = parse_stage(f'summary = "x"\n{settings}', name="x", file="stages/x/stage.toml")
    assert stage.framework is not None
    for member in framework_members("/xoe_runtime", canonical_json(framework_settings(stage.framework))):
        path = folder / member.path
        path.parent.mkdir(exist_ok=True)
        assert member.content is not None
        path.write_bytes(b"".join(member.content()))


@pytest.fixture
def laid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lay]:
    """Return a function that lays the module out and imports it."""

    def imported(settings: str) -> ModuleType:
        lay(tmp_path, settings)
        monkeypatch.syspath_prepend(tmp_path)
        return importlib.import_module("xoe_runtime")

    yield imported
    for name in [name for name in sys.modules if name.partition(".")[0] == "xoe_runtime"]:
        del sys.modules[name]
