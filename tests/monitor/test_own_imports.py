"""The folder `monitor` runs in a container without the rest of the package."""

from __future__ import annotations

import pkgutil
import shutil
import subprocess
import sys
from pathlib import Path

from buildkit import monitor

_IMPORT = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)\n"


def test_every_module_can_be_imported_without_the_rest_and_without_libraries(tmp_path: Path) -> None:
    shutil.copytree(Path(monitor.__file__).parent, tmp_path / "buildkit/monitor")
    (tmp_path / "buildkit/__init__.py").touch()
    found = [one.name for one in pkgutil.walk_packages(monitor.__path__, "buildkit.monitor.")]
    assert "buildkit.monitor.exporter" in found
    argv = (sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{_IMPORT}", *found)
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
