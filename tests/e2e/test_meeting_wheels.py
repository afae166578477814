"""Two wheels with different files at one path: found when locking or building, and settled by `prefer`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.tinyproject import Tiny, one_error
from tests.layers.wheelmaker import make_wheel

pytestmark = pytest.mark.tools

PATH = "/opt/venv/lib/python3.13/site-packages/alpha/__init__.py"
DEPS = "stages/deps/stage.toml"


def test_wheels_that_meet_stop_the_build_until_one_is_preferred(tiny: Tiny, links: Path, tmp_path: Path) -> None:
    metadata = "Metadata-Version: 2.1\nName: delta\nVersion: 1.0\n\n"
    files = {"alpha/__init__.py": b"VERSION = 'of delta'\n", "alpha/delta.py": b"x = 1\n"}
    make_wheel(tmp_path, files, name="delta", version="1.0", METADATA=metadata)
    tiny.env["PIP_FIND_LINKS"] = f"{links} {tmp_path}"
    tiny.build("deps")
    tiny.write("requirements/app.in", (tiny.project / "requirements/app.in").read_text() + "delta==1.0\n")
    said = one_error(tiny.run("lock"), 2)
    assert f"{PATH} is in alpha 1.0 and in delta 1.0" in said
    assert "pip would keep the file of the one that it installs last" in said
    assert 'prefer = ["alpha"] or ["delta"] in [wheels] of stages/deps/stage.toml' in said
    tiny.replace(DEPS, "[wheels]\n", '[wheels]\nprefer = ["delta"]\n')
    tiny.lock()
    tiny.replace(DEPS, 'prefer = ["delta"]\n', "")
    message = tiny.refuse("deps", code=1)
    assert f"{PATH} is in delta 1.0 (layer deps/bin-1) and in alpha 1.0" in message
    tiny.replace(DEPS, "[wheels]\n", '[wheels]\nprefer = ["delta"]\n')
    tiny.build("app")
    assert tiny.run_image("app", "cat", PATH) == "VERSION = 'of delta'\n"
    tiny.replace(DEPS, '["delta"]', '["alpha", "delta"]')
    tiny.build("app")
    assert tiny.run_image("app", "cat", PATH) == 'VERSION = "1.0"\n'
    assert tiny.run_image("app", "cat", PATH.replace("__init__", "delta")) == "x = 1\n"
