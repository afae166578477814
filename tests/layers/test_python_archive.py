"""An archive of python-build-standalone as a layer: what is in it, and archives that are none."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from buildkit.errors import BuildError
from buildkit.layers.python_archive import patch_sysconfig, python_members
from buildkit.layers.tar.member import Compression
from buildkit.layers.tar.writer import write_layer

SYSCONFIG = """# system configuration generated and used by the sysconfig module
build_time_vars = {'AR': '/tools/llvm/bin/llvm-ar', 'CC': 'clang -pthread', 'CXX': '/usr/bin/x86_64-linux-gnu-g++',
 'CFLAGS': '-O3 -fdebug-default-version=4 -fPIC', 'INSTALL': '/usr/bin/install -c', 'LIBDIR': '/install/lib',
 'LDFLAGS': '-L/other', 'prefix': '/install', 'SIZEOF_LONG': 8}
"""
FILES = {
    "bin/python3.12": "program",
    "bin/pip3.12": "#!/bin/sh",
    "include/python3.12/Python.h": "header",
    "lib/libtcl9.0.so": "tcl",
    "lib/python3.12/_sysconfigdata__linux_x86_64-linux-gnu.py": SYSCONFIG,
    "lib/python3.12/config-3.12-x86_64-linux-gnu/libpython3.12.a": "static",
    "lib/python3.12/os.py": "x = 1",
    "lib/python3.12/__pycache__/os.cpython-312.pyc": "stale",
    "lib/python3.12/site-packages/pip/__init__.py": "pip",
    "lib/python3.12/test/test_os.py": "test",
    "lib/pkgconfig/python-3.12.pc": "prefix=/install\nlibdir=${prefix}/lib\n",
    "share/terminfo/x/xterm": "terminal",
}


def make(folder: Path, *, name: str = "python.tar.gz", head: str = "python/", extra: tuple[tarfile.TarInfo, ...] = (),
         mtime: int = 1, files: dict[str, str] = FILES) -> Path:  # fmt: skip
    with tarfile.open(folder / name, "w:gz") as tar:
        for path, text in files.items():
            info = tarfile.TarInfo(head + path)
            info.size, info.mtime, info.uid, info.mode = len(text), mtime, mtime, 0o755 if "bin/" in path else 0o600
            tar.addfile(info, io.BytesIO(text.encode()))
        for info in extra:
            tar.addfile(info)
    return folder / name


def link(path: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(path)
    info.type, info.linkname = kind, target
    return info


def pack(archive: Path) -> tuple[bytes, dict[str, str]]:
    out = io.BytesIO()
    packed = write_layer(python_members(archive, "3.12", "/opt/python"), out, Compression.NONE)
    return out.getvalue(), dict(packed.contents)


def test_layer_has_what_a_container_needs(tmp_path: Path) -> None:
    extra = (
        link("python/bin/python3", "python3.12"),
        link("python/bin/python", "python/bin/python3.12", tarfile.LNKTYPE),
    )
    data, contents = pack(make(tmp_path, extra=extra))
    assert sorted(contents) == [
        "opt/python/bin/python", "opt/python/bin/python3", "opt/python/bin/python3.12",
        "opt/python/include/python3.12/Python.h", "opt/python/lib/pkgconfig/python-3.12.pc",
        "opt/python/lib/python3.12/_sysconfigdata__linux_x86_64-linux-gnu.py", "opt/python/lib/python3.12/os.py",
    ]  # fmt: skip
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert tar.getmember("opt/python/bin/python").linkname == "../bin/python3.12"
        modes = {tar.getmember(f"opt/python/{path}").mode for path in ("bin/python3.12", "lib/python3.12")}
        assert modes == {0o755}
        assert tar.getmember("opt/python/lib/python3.12/os.py").mode == 0o644
        assert {(member.uid, member.mtime) for member in tar} == {(0, 0)}
        config = tar.extractfile("opt/python/lib/pkgconfig/python-3.12.pc")
        assert config is not None
        assert config.read().startswith(b"prefix=/opt/python\n")


def test_bytes_do_not_depend_on_owners_times_or_compression(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    assert pack(make(tmp_path)) == pack(make(tmp_path / "other", mtime=1234))
    full = make(tmp_path, name="cpython-full.tar.gz".replace("-", "-3.12-x-"), head="python/install/")
    assert pack(full) == pack(make(tmp_path))


def test_sysconfig_names_the_image_and_a_compiler_that_debian_has() -> None:
    found: dict[str, dict[str, object]] = {}
    exec(patch_sysconfig(SYSCONFIG, "/opt/python"), found)
    assert found["build_time_vars"] == {
        "AR": "ar", "CC": "gcc -pthread", "CXX": "g++", "CFLAGS": "-O3 -fPIC", "INSTALL": "/usr/bin/install -c",
        "LIBDIR": "/opt/python/lib", "LDFLAGS": "-L/other", "prefix": "/opt/python", "SIZEOF_LONG": 8,
    }  # fmt: skip
    with pytest.raises(BuildError, match="sysconfig cannot be read"):
        patch_sysconfig("import os\nbuild_time_vars = os.environ\n", "/opt/python")


@pytest.mark.parametrize(
    ("extra", "what"),
    [
        (link("python/bin/x", "/etc/passwd", tarfile.LNKTYPE), "a hard link in an archive of Python"),
        (link("python/dev", "", tarfile.CHRTYPE), "a character device in an archive of Python"),
        (link("python/bin/../../../etc/x", "y"), "climbs out of its folder"),
    ],
)
def test_hostile_member_is_refused(tmp_path: Path, extra: tarfile.TarInfo, what: str) -> None:
    with pytest.raises(BuildError, match=what):
        pack(make(tmp_path, extra=(extra,)))


def test_archive_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"python.tar.gz: holds no Python 3.12 \(python/bin/python3.12\)"):
        pack(make(tmp_path, files={"bin/python3.11": "program"}))
    (tmp_path / "cut.tar.gz").write_bytes(make(tmp_path).read_bytes()[:200])
    with pytest.raises(BuildError, match=r"cut\.tar\.gz"):
        pack(tmp_path / "cut.tar.gz")
