"""The script that compiles bytecode in an export: faulty sources are skipped, every other failure is an error."""

from __future__ import annotations

import marshal
import subprocess
import sys
from importlib.util import MAGIC_NUMBER
from pathlib import Path

import pytest

from buildkit.containerfile.wheel_stages import bytecode_script

_FOREIGN = {"old.py": 'print "x"\n', "template.py": "class {{name}}:\n", "nul.py": "x = '\0'\n", "deep.py": "(" * 999}


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """Installed wheels, and the script next to them."""
    (tmp_path / "bytecode.py").write_text(bytecode_script())
    folder = tmp_path / "wheels/opt/venv/lib/pack"
    folder.mkdir(parents=True)
    (folder / "good.py").write_text("WORD = 'good'\n")
    (folder / "large.py").write_text(f"WORD = {'large' * 2000!r}\n")
    return folder


def test_compiled_bytecode_equals_that_of_compileall(wheels: Path) -> None:
    root = wheels.parents[3]
    argv = ("-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", "-s", str(root), "-p", "/", str(root))
    subprocess.run((sys.executable, *argv), check=True)
    wanted = compiled(wheels)
    assert sorted(wanted) == ["good", "large"]
    for file in wheels.glob("__pycache__/*"):
        file.unlink()
    assert compile_wheels(wheels).returncode == 0
    assert compiled(wheels) == wanted
    assert wanted["good"][:8] == MAGIC_NUMBER + b"\1\0\0\0"  # by a hash that nobody checks
    assert marshal.loads(wanted["good"][16:]).co_filename == "/opt/venv/lib/pack/good.py"


def test_files_in_another_syntax_are_skipped(wheels: Path) -> None:
    for name, text in _FOREIGN.items():
        (wheels / name).write_text(text)
    (wheels / "folder.py").mkdir()
    done = compile_wheels(wheels)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(compiled(wheels)) == ["good", "large"]


@pytest.mark.tools
@pytest.mark.parametrize("foreign", [{}, _FOREIGN], ids=["alone", "beside files in another syntax"])
def test_full_disk_fails_the_compilation(wheels: Path, foreign: dict[str, str]) -> None:
    for name, text in foreign.items():
        (wheels / name).write_text(text)
    root = wheels.parents[3]
    root.rename(root.with_name("whole"))
    root.mkdir()
    full = 'mount -t tmpfs -o size=1m none "$1"; cp -r "$1/../whole/." "$1"; cat /dev/zero >"$1/full" 2>/dev/null'
    done = compile_wheels(
        wheels, "unshare", "--map-root-user", "--mount", "sh", "-c", f'{full}; shift; exec "$@"', "sh", str(root)
    )
    assert done.returncode == 1
    assert "OSError: [Errno 28] No space left on device" in done.stdout
    assert "good.py: could not write its bytecode" in done.stderr


def compile_wheels(wheels: Path, *before: str) -> subprocess.CompletedProcess[str]:
    root = wheels.parents[3]
    argv = (*before, sys.executable, str(root.parent / "bytecode.py"), str(root))
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def compiled(wheels: Path) -> dict[str, bytes]:
    """The bytecode by the module's name."""
    return {path.name.partition(".")[0]: path.read_bytes() for path in wheels.glob("__pycache__/*.pyc")}
