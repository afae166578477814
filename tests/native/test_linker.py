"""The search order of the dynamic linker, checked against a real one."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from buildkit.native.collector import NativeCollector
from buildkit.native.facts import NativeFacts
from buildkit.native.linker import Linker
from tests.native.elfmaker import AARCH64, make_elf
from tests.native.native_images import LIB, Content, survey

A = "opt/a/liba.so"


def find(name: str, wanting: bytes, *, at: str = A, env: dict[str, str] | None = None, **files: Content) -> str | None:
    """The path that ``name`` is found at for a file that needs it; ``files`` by paths with / as __."""
    others = {path.replace("__", "/").replace("_so", ".so"): what for path, what in files.items()}
    linker = Linker(survey({at: wanting, **others}), env or {})
    return linker.load(at).names.get(name)


X = make_elf(soname="libx.so")


@pytest.mark.parametrize("folder", ["lib", "usr/lib", LIB, "lib/x86_64-linux-gnu", "lib64"])
def test_library_in_a_default_folder_is_found(folder: str) -> None:
    files: dict[str, Content] = {A: make_elf(needed=("libx.so",)), f"{folder}/libx.so": X}
    assert Linker(survey(files), {}).load(A).names["libx.so"] == f"{folder}/libx.so"


def test_configured_folder_is_searched_only_after_ldconfig() -> None:
    files: dict[str, Content] = {
        A: make_elf(needed=("libx.so",)),
        "usr/local/lib/libx.so": X,
        "etc/ld.so.conf": b"include /etc/ld.so.conf.d/*.conf\ninclude /etc/ld.so.conf # itself\n",
        "etc/ld.so.conf.d/libc.conf": b"# of libc\n/usr/local/lib/\n",
    }
    assert Linker(survey(files), {}).load(A).missing
    assert not Linker(survey(files | {"etc/ld.so.cache": b"ld.so-1.7.0"}), {}).load(A).missing


def test_search_order_of_environment_runpath_and_rpath() -> None:
    places = {"env__libx_so": X, "run__libx_so": X, "rpath__libx_so": X, "usr__lib__libx_so": X}
    env = {"LD_LIBRARY_PATH": "/env"}
    both = make_elf(needed=("libx.so",), rpath="/rpath", runpath="/run")
    assert find("libx.so", make_elf(needed=("libx.so",), rpath="/rpath"), env=env, **places) == "rpath/libx.so"
    assert find("libx.so", both, env=env, **places) == "env/libx.so", "with a runpath, the rpath is nothing"
    assert find("libx.so", both, **places) == "run/libx.so"
    assert find("libx.so", make_elf(needed=("libx.so",)), **places) == "usr/lib/libx.so"


def test_origin_is_the_real_folder_of_the_file() -> None:
    files: dict[str, Content] = {
        A: make_elf(needed=("libx.so", "liby.so"), runpath="$ORIGIN/../b:${ORIGIN}/link/../c:relative:"),
        "opt/b/libx.so": "libx.so.1.2",
        "opt/b/libx.so.1.2": X,
        "opt/a/link": "/srv/deep",
        "srv/c/liby.so": make_elf(soname="liby.so"),
    }
    loaded = Linker(survey(files), {}).load(A)
    assert loaded.order == [A, "opt/b/libx.so.1.2", "srv/c/liby.so"]
    assert not loaded.missing


def test_lib_variable_is_expanded() -> None:
    wanting = make_elf(needed=("libx.so",), runpath="/opt/$LIB")
    files: dict[str, Content] = {A: wanting, "opt/lib/x86_64-linux-gnu/libx.so": X}
    assert not Linker(survey(files), {}).load(A).missing


def test_rpath_applies_to_indirect_needs_and_runpath_does_not() -> None:
    below: dict[str, Content] = {"deep/libx.so": X, "opt/b/libb.so": make_elf(needed=("libx.so",), soname="libb.so")}
    inherited = {A: make_elf(needed=("libb.so",), rpath="$ORIGIN/../b:/deep"), **below}
    assert not Linker(survey(inherited), {}).load(A).missing
    alone = {A: make_elf(needed=("libb.so",), runpath="$ORIGIN/../b:/deep"), **below}
    (lacking,) = Linker(survey(alone), {}).load(A).missing
    assert (lacking.path, lacking.name) == ("opt/b/libb.so", "libx.so")


def test_circular_needs_are_loaded_once() -> None:
    files: dict[str, Content] = {
        A: make_elf(needed=("libb.so", "libnone.so"), soname="liba.so", rpath="$ORIGIN/../b"),
        "opt/b/libb.so": make_elf(needed=("liba.so", "libother.so"), soname="libb.so"),
    }
    loaded = Linker(survey(files), {}).load(A)
    assert loaded.order == [A, "opt/b/libb.so"]
    assert [one.name for one in loaded.missing] == ["libnone.so", "libother.so"]


def test_library_already_loaded_under_a_name_is_not_searched() -> None:
    files: dict[str, Content] = {
        A: make_elf(needed=("libb.so", "libc10.so"), runpath="$ORIGIN/../b"),
        "opt/b/libb.so": make_elf(needed=("libc10.so",), soname="libb.so"),
        "opt/b/libc10.so": make_elf(soname="libc10.so"),
        "opt/late/liblate.so": make_elf(needed=("libc10.so",)),
    }
    linker = Linker(survey(files), {})
    assert not linker.load(A).missing
    assert linker.load("opt/late/liblate.so").missing
    assert not linker.load("opt/late/liblate.so", linker.load(A)).missing


def test_file_for_another_machine_is_skipped() -> None:
    wanting = make_elf(needed=("libx.so",), runpath="/one:/two")
    files: dict[str, Content] = {A: wanting, "one/libx.so": make_elf(machine=AARCH64), "two/libx.so": X}
    assert Linker(survey(files), {}).load(A).names["libx.so"] == "two/libx.so"


def test_needed_name_with_a_slash_is_a_path() -> None:
    assert find("/srv/libx.so", make_elf(needed=("/srv/libx.so",)), srv__libx_so=X) == "srv/libx.so"
    assert find("../libx.so", make_elf(needed=("../libx.so",)), opt__libx_so=X) is None


def test_circular_links_resolve_to_none() -> None:
    files: dict[str, Content] = {
        A: make_elf(needed=("libx.so", "liby.so"), runpath="/opt/round:/opt/a"),
        "opt/round": "/opt/trip",
        "opt/trip": "round",
        "opt/a/liby.so": "liby.so",
    }
    assert len(Linker(survey(files), {}).load(A).missing) == 2


def test_link_cannot_leave_the_image() -> None:
    assert find("libx.so", make_elf(needed=("libx.so",), runpath="/../../../srv"), srv__libx_so=X) == "srv/libx.so"


@pytest.mark.skipif(shutil.which("ldd") is None, reason="there is no glibc here")
def test_host_linker_agrees_on_the_modules_of_this_environment() -> None:
    facts = _survey_host()
    linker = Linker(facts, {})
    modules = [path for path in facts.files if path.endswith(".so") and "python" in path][:30]
    assert len(modules) > 10
    listed = subprocess.run(["ldd", *(f"/{path}" for path in modules)], capture_output=True, text=True).stdout
    parts = re.split(r"^(/\S+):$", listed, flags=re.MULTILINE)[1:]
    assert len(parts) == 2 * len(modules)
    for path, text in zip(parts[::2], parts[1::2], strict=True):
        loaded = linker.load(path.lstrip("/"))
        assert {one.name for one in loaded.missing} == set(re.findall(r"(\S+) => not found", text))
        for name, there in re.findall(r"(\S+) => (/\S+) \(", text):
            assert Path("/", loaded.names[name]).resolve() == Path(there).resolve(), path


def _survey_host() -> NativeFacts:
    """The host's libraries, and this environment's, as a layer would have them."""
    found = NativeCollector()
    for link in ("lib", "lib64", "lib32", "libx32"):
        if Path("/", link).is_symlink():
            found.add_link(link, str(Path("/", link).readlink()))
    modules = [Path(path) for path in sys.path if path.endswith("lib-dynload")]
    numpy = [Path(path) / part for path in sys.path for part in ("numpy/_core", "numpy.libs", "onnxruntime/capi")]
    for folder in (*map(Path, (f"/{LIB}", "/usr/lib64", "/usr/lib/aarch64-linux-gnu")), *modules, *numpy):
        for path in sorted(folder.glob("*.so*")) if folder.is_dir() else ():
            _take(found, path)
    return found.facts()


def _take(found: NativeCollector, path: Path) -> None:
    name = str(path).lstrip("/")
    if path.is_symlink():
        found.add_link(name, str(path.readlink()))
        return

    def chunks() -> Iterator[bytes]:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                yield chunk

    found.add_file(name, path.stat().st_size, chunks())
