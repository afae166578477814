"""The program that the audit sends into a container to find writable folders."""

import json
import subprocess
import sys
from importlib.resources import files
from pathlib import Path


def test_write_probe_lists_writable_folders_once_and_leaves_no_file(tmp_path: Path) -> None:
    text = (files("buildkit.inspection") / "write_probe.py").read_text("utf-8")
    folders = [str(tmp_path), "/proc/self", str(tmp_path / "missing"), str(tmp_path)]
    argv = (sys.executable, "-I", "-c", text, json.dumps(folders))
    writable = json.loads(subprocess.run(argv, check=True, capture_output=True, text=True).stdout)
    assert writable.count(str(tmp_path)) == 1
    assert not {"/proc/self", str(tmp_path / "missing")} & set(writable)
    assert list(tmp_path.iterdir()) == []
