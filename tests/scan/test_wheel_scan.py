"""Wheels: what runs or hides without an import is found, and what well-known packages ship is not."""

from __future__ import annotations

import math
import pickle
import stat
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from buildkit.findings import Severity
from buildkit.scan import Scan, scan_wheel
from tests.layers.wheelmaker import DATA, append, make_wheel

SITES = ("", f"{DATA}/purelib/", f"{DATA}/platlib/", f"{DATA}/data/lib/python3.13/site-packages/")
EVIL = b"cposix\nsystem\n(S'true'\ntR."  # never loaded
STACKED = b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x04true\x94\x85\x94R\x94."
ELF = b"\x7fELF\x02\x01\x01" + b"\0" * 100
NAMESPACE = (
    "import sys, types, os;has_mfs = sys.version_info > (3, 5);p = os.path.join(sys._getframe(1).f_locals['sitedir'], "
    "*('demo',));importlib = has_mfs and __import__('importlib.util');has_mfs and __import__('importlib.machinery');"
    "m = has_mfs and sys.modules.setdefault('demo', importlib.util.module_from_spec(importlib.machinery.PathFinder."
    "find_spec('demo', [os.path.dirname(p)])));m = m or sys.modules.setdefault('demo', types.ModuleType('demo'));"
    "mp = (m or []) and m.__dict__.setdefault('__path__',[]);(p not in mp) and mp.append(p)\n"
)
STARTUP_MODULES = (
    "sitecustomize.py", "usercustomize.py", "sitecustomize/__init__.py", "usercustomize.pyc", "sitecustomize.so",
    "sitecustomize.cpython-313-x86_64-linux-gnu.so", "apport_python_hook.py",
)  # fmt: skip
STARTUP_LINES = (
    b"import demo\n", b"# x\n\nimport\tdemo", b"\xef\xbb\xbfimport demo\n", b"a\x0cimport demo\n", b"a\rimport demo",
    "a\u2028import demo".encode(), b"import os; exec('x')\n", b"\xff\nimport demo\n",
)  # fmt: skip
OBJECT = pickle.dumps(math.sqrt, 4).replace(b"\x04math", b"\x05posix")


class Classifier:
    """A class as a package pickles it."""


def scan(folder: Path, files: dict[str, bytes], name: str = "demo_pkg") -> Scan:
    return scan_wheel(make_wheel(folder, files, name=name), frozenset())


def found(scan: Scan) -> set[tuple[str, str]]:
    return {(finding.rule.id, finding.member) for finding in scan.findings}


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("name", STARTUP_MODULES)
def test_module_that_python_imports_at_every_start_is_found(tmp_path: Path, site: str, name: str) -> None:
    assert found(scan(tmp_path, {f"{site}{name}": b"x = 1\n"})) == {("wheel-startup-code", f"{site}{name}")}


@pytest.mark.parametrize("name", ["demo/sitecustomize.py", "sitecustomize_demo.py", f"{DATA}/scripts/sitecustomize.py"])
def test_module_of_that_name_elsewhere_is_fine(tmp_path: Path, name: str) -> None:
    assert found(scan(tmp_path, {name: b"x = 1\n"})) == set()


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("text", STARTUP_LINES)
def test_code_in_a_path_file_is_found(tmp_path: Path, site: str, text: bytes) -> None:
    assert ("wheel-startup-code", f"{site}demo.pth") in found(scan(tmp_path, {f"{site}demo.pth": text}))


def test_path_file_that_is_too_large_is_found(tmp_path: Path) -> None:
    assert found(scan(tmp_path, {"demo.pth": b"#" * (2 << 20)})) == {("wheel-startup-code", "demo.pth")}


def test_folder_that_a_path_file_adds_is_a_lesser_finding(tmp_path: Path) -> None:
    (finding,) = scan(tmp_path, {"demo.pth": b"# text\n\n/tmp/demo\n"}).findings
    assert (finding.rule.id, finding.severity) == ("wheel-search-path", Severity.MEDIUM)


SETUPTOOLS = (
    b"import os; var = 'SETUPTOOLS_USE_DISTUTILS'; enabled = os.environ.get(var, 'local') == 'local'; "
    b"enabled and __import__('_distutils_hack').add_shim(); \n"
)


def test_known_path_files_are_known_verbatim_and_of_their_distribution(tmp_path: Path) -> None:
    file = "distutils-precedence.pth"
    assert found(scan(tmp_path / "1", {file: SETUPTOOLS}, "setuptools")) == set()
    assert found(scan(tmp_path / "2", {file: SETUPTOOLS})) == {("wheel-startup-code", file)}
    assert found(scan(tmp_path / "3", {file: SETUPTOOLS + b"import x\n"}, "setuptools")) == {
        ("wheel-startup-code", file)
    }
    assert found(scan(tmp_path / "4", {"demo-nspkg.pth": NAMESPACE.encode()})) == set()
    for changed in (
        NAMESPACE.replace("'demo'", "'demo' or x()", 1),
        NAMESPACE[:-1] + ";x()",
        NAMESPACE.replace("p = ", "p = x()", 1),
    ):
        text = {"demo-nspkg.pth": changed.encode()}
        assert found(scan(tmp_path / "5", text)) == {("wheel-startup-code", "demo-nspkg.pth")}


@pytest.mark.parametrize("name", ["demo/a.pkl", "demo/a.PICKLE", "demo/a.joblib", "demo/a.npy", "demo/a.pt", "a.dat",
    "demo/a", "demo/a.bin", f"{DATA}/data/share/a.pkl"])  # fmt: skip
@pytest.mark.parametrize("content", [EVIL, STACKED, OBJECT])
def test_pickle_that_names_what_is_denied_is_found_whatever_its_name(tmp_path: Path, name: str, content: bytes) -> None:
    result = scan(tmp_path, {name: content})
    assert {member for _, member in found(result)} == {name}
    assert max(finding.severity for finding in result.findings) >= Severity.HIGH


def test_pickle_inside_an_archive_with_a_models_name_is_found(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "inner", "w") as inner:
        inner.writestr("archive/data.pkl", EVIL)
    result = scan(tmp_path, {"demo/a.pt": (tmp_path / "inner").read_bytes()})
    assert "pickle-runs-code" in {finding.rule.id for finding in result.findings}


def test_classes_of_its_own_in_a_pickle_are_as_good_as_the_wheel(tmp_path: Path) -> None:
    content = pickle.dumps(Classifier(), 2).replace(f"c{__name__}".encode(), b"cdemo_pkg.models")
    files = {"demo_pkg/__init__.py": b"", "demo_pkg/a.pkl": content}
    assert found(scan(tmp_path / "1", files)) == set()
    foreign = scan(tmp_path / "2", {"demo/__init__.py": b"", "demo/a.pkl": content})
    assert [(finding.rule.id, finding.severity) for finding in foreign.findings] == [
        ("pickle-unknown-global", Severity.MEDIUM)
    ]


@pytest.mark.parametrize("package", ["os", "posix", "builtins"])
def test_own_package_with_a_dangerous_name_makes_nothing_of_it_harmless(tmp_path: Path, package: str) -> None:
    content = EVIL.replace(b"posix", package.encode()).replace(
        b"system", b"eval" if package == "builtins" else b"system"
    )
    files = {f"{package}/__init__.py": b"", "demo/a.pkl": content}
    assert max(finding.severity for finding in scan(tmp_path, files).findings) == Severity.CRITICAL


def test_pickle_that_breaks_off_is_not_fully_scanned(tmp_path: Path) -> None:
    assert scan(tmp_path, {"demo/a.pkl": pickle.dumps([1] * 99)[:-5]}).gaps


@pytest.mark.parametrize("name", ["demo/a.txt", "demo/a.png", "demo/a.json", "demo/a.dat", "demo/LICENSE.md.html"])
def test_program_with_the_name_of_data_is_found(tmp_path: Path, name: str) -> None:
    assert found(scan(tmp_path, {name: ELF})) == {("wheel-disguised-program", name)}


@pytest.mark.parametrize(
    "name", ["demo/tool", "demo/a.so", "demo.libs/a-1f.so.1.2.3", "demo/a.so.23git", "demo/a.o", "demo/t.exe"]
)
def test_program_with_the_name_of_one_is_fine(tmp_path: Path, name: str) -> None:
    assert found(scan(tmp_path, {name: ELF})) == set()


@pytest.mark.parametrize("name", ["sh", "bash", "env", "ls", "sudo", "apt-get"])
def test_script_with_the_name_of_a_system_program_is_found(tmp_path: Path, name: str) -> None:
    for member in (f"{DATA}/scripts/{name}", f"{DATA}/data/bin/{name}"):
        assert found(scan(tmp_path, {member: b"#!/bin/sh\n"})) == {("wheel-shadows-program", member)}
    assert found(scan(tmp_path, {f"{DATA}/scripts/demo-{name}": b"#!/bin/sh\n"})) == set()


@pytest.mark.parametrize("bit", [stat.S_ISUID, stat.S_ISGID])
def test_setuid_bit_is_a_lesser_finding(tmp_path: Path, bit: int) -> None:
    wheel = append(make_wheel(tmp_path, {}), "demo/tool", b"x", mode=stat.S_IFREG | bit | 0o755)
    (finding,) = scan_wheel(wheel, frozenset()).findings
    assert (finding.rule.id, finding.severity, finding.member) == ("wheel-setuid", Severity.MEDIUM, "demo/tool")


def test_plain_package_is_clean(tmp_path: Path) -> None:
    files = {
        "demo/__init__.py": b"import os\n", "demo/data.json": b"{}", "demo/e": b"",
        "demo/logo.png": b"\x89PNG\r\n\x1a\n",
        "demo/table.dat": pickle.dumps({"a": [1, 2]}, 2), "demo/words.npz": b"", "demo/weights.pth": b"",
    }  # fmt: skip
    result = scan(tmp_path, files)
    assert (result.findings, result.gaps) == ((), ())


def test_array_of_python_2_is_clean(tmp_path: Path) -> None:
    """Such as NumPy's own test data: its header has long integers, which NumPy reads, too."""
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (2L, 3L), }".ljust(117) + b"\n"
    result = scan(tmp_path, {"demo/a.npy": b"\x93NUMPY\x01\x00v\x00" + header + bytes(48)})
    assert (result.findings, result.gaps) == ((), ())


def test_large_model_is_not_held_in_memory(tmp_path: Path) -> None:
    files = {"demo/weights.pkl": pickle.dumps(bytes(40 << 20), 4) + OBJECT}
    wheel = make_wheel(tmp_path, files)
    files.clear()
    tracemalloc.start()
    try:
        scanned = scan_wheel(wheel, frozenset())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert scanned.findings != (), "what follows is found all the same"
    assert peak < 20 << 20
