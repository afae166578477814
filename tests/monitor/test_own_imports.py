"""The container of the monitor has the folder `monitor` without the rest of the package."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from buildkit import monitor


def test_what_the_container_runs_needs_neither_the_rest_nor_libraries(tmp_path: Path) -> None:
    shutil.copytree(Path(monitor.__file__).parent, tmp_path / "buildkit/monitor")
    (tmp_path / "buildkit/__init__.py").touch()
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import buildkit.monitor.__main__ as one; one.open_routes"
    )
    done = subprocess.run((sys.executable, "-I", "-S", "-c", code), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
