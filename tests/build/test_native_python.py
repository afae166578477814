"""The Python of a root as a folder of this machine: what its tar may write."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from buildkit.build.native_python import lay_out_python

LIBRARY = "usr/lib/x86_64-linux-gnu/libpython3.13.so"


def lay_out(folder: Path, *members: tuple[str, str]) -> dict[str, str]:
    """Lay out a root of files (path, content) and links (path, ``-> target``); return the files there are."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for path, content in members:
            info = tarfile.TarInfo(path)
            if content.startswith("-> "):
                info.type, info.linkname = tarfile.SYMTYPE, content.removeprefix("-> ")
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content.encode()))
    root: Any = SimpleNamespace(key="key", name="base/root")
    state = SimpleNamespace(results={"key": SimpleNamespace(blobs=("blob",))})
    context: Any = SimpleNamespace(state=state, layers=SimpleNamespace(open_tar=lambda _blob: iter((out.getvalue(),))))
    lay_out_python(context, root, folder / "python")
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_interpreter_library_and_links_to_it_are_laid_out_alone(tmp_path: Path) -> None:
    found = lay_out(
        tmp_path,
        ("usr/bin/python3.13", "interpreter"),
        ("usr/bin/bash", "no"),
        ("usr/lib/python3.13/json/__init__.py", "module"),
        (f"{LIBRARY}.1.0", "library"),
        (LIBRARY, "-> libpython3.13.so.1.0"),
    )
    assert found == {
        "python/usr/bin/python3.13": "interpreter",
        "python/usr/lib/python3.13/json/__init__.py": "module",
        f"python/{LIBRARY}.1.0": "library",
        f"python/{LIBRARY}": "library",
    }


def test_hostile_root_writes_nothing_outside_its_folder(tmp_path: Path) -> None:
    """Neither by its names nor through links."""
    (tmp_path / "victim.py").write_text("kept")
    found = lay_out(
        tmp_path,
        ("usr/lib/python3.13/../../../../victim.py", "hostile"),
        (LIBRARY, "-> /etc/passwd"),
        (f"{LIBRARY}.1", "-> .."),
        (f"{LIBRARY}.1", "a file now"),
    )
    assert found == {"victim.py": "kept", f"python/{LIBRARY}.1": "a file now"}
