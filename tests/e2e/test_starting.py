"""Builds warn of native files that lack what they need: when the layer is made, and when nothing changed."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing

import pytest

from tests.e2e.tinyproject import Ended, Tiny
from tests.native.elfmaker import AARCH64, X86_64, make_elf

pytestmark = pytest.mark.tools

_ARM = os.uname().machine == "aarch64"
_MACHINE = AARCH64 if _ARM else X86_64
_LINKER = "/lib/ld-linux-aarch64.so.1" if _ARM else "/lib64/ld-linux-x86-64.so.2"
_STAGE = """summary = "a program that lacks a library"
from = "base"

[[copy]]
source = "files"
target = "/usr"
"""
_SAID = (
    "may not start: /usr/bin/tool of native/files: it needs libnone.so.1, which is nowhere in the image; "
    "Debian's is probably libnone1"
)


def warnings(ended: Ended) -> list[str]:
    return [line.strip().removeprefix("warning").strip() for line in ended.text.splitlines() if "may not start" in line]


@pytest.fixture
def native(tiny: Tiny) -> Tiny:
    """A project with a stage whose program needs a library."""
    tiny.write("stages/native/stage.toml", _STAGE)
    put(tiny, "bin/tool", make_elf(needed=("libc.so.6", "libnone.so.1"), interpreter=_LINKER, machine=_MACHINE))
    return tiny


def put(tiny: Tiny, path: str, content: bytes) -> None:
    file = tiny.project / "stages/native/files" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    tiny.git("add", ".")


def forget(tiny: Tiny, *tables: str) -> None:
    with closing(sqlite3.connect(tiny.cache / "ledger.sqlite")) as db:
        for table in tables:
            db.execute(f"DELETE FROM {table}")
        db.commit()


def test_a_build_warns_and_so_does_the_next_until_the_library_is_there(native: Tiny) -> None:
    first = native.build("native")
    assert warnings(first) == [_SAID]
    assert warnings(native.build("native")) == [_SAID], "nothing changed"

    facts = native.rows("natives")
    forget(native, "starts", "natives")
    assert warnings(native.build("native")) == [_SAID], "blobs are read again"
    assert native.rows("natives") == facts

    forget(native, "starts", "natives")
    for blob in (native.cache / "sha256").iterdir():
        blob.unlink()
    assert warnings(native.build("native")) == [], "of layers that only storage has nothing is said"
    assert native.rows("starts") == []

    put(native, "lib64/libnone.so.1", make_elf(soname="libnone.so.1", machine=_MACHINE))
    assert warnings(native.build("native")) == []


def test_layers_for_others_to_include_are_not_expected_to_start(native: Tiny) -> None:
    native.replace("stages/native/stage.toml", 'from = "base"\n', "")
    assert warnings(native.build("native")) == []
    assert native.rows("starts") == []


def test_a_fresh_machine_is_told_by_the_shared_cache_what_layers_need(
    native: Tiny, make_tiny: Callable[[], Tiny], registry: str
) -> None:
    cache = f"{registry}/starting/cache"
    assert warnings(native.build("native", "--cache-write", cache)) == [_SAID]

    fresh = make_tiny()
    shutil.rmtree(fresh.project)
    fresh.adopt(native.project)
    arguments = ("--no-import", "--cache", cache)
    assert warnings(fresh.build("native", *arguments)) == [], "nothing was made here: it was said there"
    put(fresh, "bin/other", make_elf(needed=("libother.so.2",), interpreter=_LINKER, machine=_MACHINE))
    done = fresh.build("native", *arguments)
    assert [name for name in done.built() if name == "native/files"] == ["native/files"]
    assert any("libother.so.2" in line for line in warnings(done))
    assert not any("libc.so.6" in line for line in warnings(done)), "the root's files are known from the cache"
    assert len(fresh.blobs()) == 1
