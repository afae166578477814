"""Builds warn of native files with missing libraries, when their layer is built and when nothing changed."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from buildkit.digest import Digest
from buildkit.remote.cache_manifest import EMPTY
from buildkit.remote.stage_index import FactsBlob, decode_stage_index, encode_stage_index
from tests.e2e.machines import put_entry, read_manifest, traffic, trust
from tests.e2e.machines import warnings as all_warnings
from tests.e2e.tinyproject import SessionResult, Tiny
from tests.faultyproxy import Fault, FaultyProxy
from tests.native.elfmaker import AARCH64, X86_64, make_elf
from tests.waiting import wait_until

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
_WARNING = (
    "may not start: /usr/bin/tool of native/files: it needs libnone.so.1, which is nowhere in the image; "
    "Debian's is probably libnone1"
)


def warnings(ended: SessionResult) -> list[str]:
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


def test_build_warns_until_the_library_is_added(native: Tiny) -> None:
    first = native.build("native")
    assert warnings(first) == [_WARNING]
    assert warnings(native.build("native")) == [_WARNING], "nothing changed"

    facts = native.rows("natives")
    forget(native, "starts", "natives")
    assert warnings(native.build("native")) == [_WARNING], "blobs are read again"
    assert native.rows("natives") == facts

    forget(native, "starts", "natives")
    for blob in (native.cache / "sha256").iterdir():
        blob.unlink()
    assert warnings(native.build("native")) == [], "nothing is reported for layers that only storage has"
    assert len(native.rows("starts")) == 1, "of the command: the ledger has the listings"

    put(native, "lib64/libnone.so.1", make_elf(soname="libnone.so.1", machine=_MACHINE))
    assert warnings(native.build("native")) == []


def test_layers_that_only_others_include_need_not_start(native: Tiny) -> None:
    native.replace("stages/native/stage.toml", 'from = "base"\n', "")
    assert warnings(native.build("native")) == []
    assert native.rows("starts") == []


def test_native_files_are_looked_at_while_a_layer_goes_up(native: Tiny, proxy: FaultyProxy, registry: str) -> None:
    trust(native, registry, proxy.host)
    target = f"{proxy.host}/starting/early:1"
    assert warnings(native.run("push-native", target)) == [_WARNING]
    looked = native.rows("starts")
    put(native, "lib64/libother.so", make_elf(machine=_MACHINE))
    put(native, "share/data", Random(1).randbytes(6 << 20))
    sending = Fault(hold_down=0)
    proxy.fault("PATCH", "/blobs/uploads/", sending)
    with ThreadPoolExecutor(1) as pool:
        pushed = pool.submit(native.run, "push-native", target)
        try:
            assert wait_until(lambda: len(native.rows("starts")) > len(looked) or pushed.done())
            assert not pushed.done()
        finally:
            sending.released.set()
        assert warnings(pushed.result()) == [_WARNING], "once"


def test_fresh_machine_learns_native_facts_from_the_remote_cache(
    native: Tiny, make_tiny: Callable[[], Tiny], registry: str
) -> None:
    cache = f"{registry}/starting/cache"
    assert warnings(native.build("native", "--cache-write", cache)) == [_WARNING]

    fresh = make_tiny()
    shutil.rmtree(fresh.project)
    fresh.adopt(native.project)
    arguments = ("--no-import", "--cache", cache)
    assert warnings(fresh.build("native", *arguments)) == [], "nothing was built here; the first machine reported it"
    put(fresh, "bin/other", make_elf(needed=("libother.so.2",), interpreter=_LINKER, machine=_MACHINE))
    done = fresh.build("native", *arguments)
    assert [name for name in done.built() if name == "native/files"] == ["native/files"]
    assert any("libother.so.2" in line for line in warnings(done))
    assert not any("libc.so.6" in line for line in warnings(done)), "the root's files are known from the cache"
    assert len(fresh.blobs()) == 1


# native facts in a stage index

_MORE = """
[[copy]]
source = "words"
target = "/words"

[[copy]]
source = "more"
target = "/opt"
"""
_ENTRIES = "/manifests/cache-[0-9a-f]{64}$"


@pytest.fixture
def proxy(registry: str) -> Iterator[FaultyProxy]:
    with FaultyProxy(registry) as proxy:
        yield proxy


class Shared:
    """A stage of several layers in a remote cache; ``build`` builds it on a fresh machine that reads and writes it."""

    def __init__(self, tiny: Tiny, proxy: FaultyProxy, registry: str, name: str) -> None:
        self.tiny, self.proxy, self.cache = tiny, proxy, f"{proxy.host}/starting/{name}"
        self.index_ref = f"{self.cache}:cache-of-native"
        trust(tiny, registry, proxy.host)
        tiny.write("stages/native/stage.toml", _STAGE + _MORE)
        self.word("one")
        put(tiny, "../more/tool", make_elf(needed=("libmore.so.1",), interpreter=_LINKER, machine=_MACHINE))
        assert len(warnings(self.build())) == 2
        assert self.facts_blob()

    def word(self, text: str) -> None:
        self.tiny.write("stages/native/words/word.txt", f"{text}\n")
        self.tiny.git("add", ".")

    def library(self) -> None:
        """Change a layer with native files."""
        put(self.tiny, "lib64/libnone.so.1", make_elf(soname="libnone.so.1", machine=_MACHINE))

    def build(self) -> SessionResult:
        shutil.rmtree(self.tiny.cache, ignore_errors=True)
        self.proxy.requests.clear()
        return self.tiny.build("native", "--no-import", "--cache", self.cache, "--cache-write", self.cache)

    def facts_blob(self) -> FactsBlob | None:
        return decode_stage_index(json.dumps(read_manifest(self.tiny, self.index_ref)).encode()).facts


@pytest.fixture
def shared(native: Tiny, proxy: FaultyProxy, registry: str, request: pytest.FixtureRequest) -> Shared:
    return Shared(native, proxy, registry, Digest.of(request.node.name.encode()).hex[:12])


def test_native_facts_of_a_stage_take_one_request(shared: Shared) -> None:
    before = shared.facts_blob()
    shared.library()
    ended = shared.build()
    assert list(ended.built()) == ["native/files"]
    (warning,) = warnings(ended)
    assert "libmore.so.1" in warning, "which another layer needs"
    assert shared.proxy.count("GET", _ENTRIES) == 1, "the new layer's"
    assert traffic(shared.proxy.requests)["GET blob"] == 2, "the native facts, and the empty config of the stage index"
    # the new stage index keeps the earlier facts, so the next machine learns both
    facts = shared.facts_blob()
    assert facts not in (None, before)
    put(shared.tiny, "../more/other", make_elf(needed=("libnone.so.1",), interpreter=_LINKER, machine=_MACHINE))
    (warning,) = warnings(shared.build())
    assert "libmore.so.1" in warning
    assert shared.proxy.count("GET", _ENTRIES) == 1


def test_native_facts_are_uploaded_once(shared: Shared) -> None:
    before = shared.facts_blob()
    shared.word("two")
    ended = shared.build()
    assert list(ended.built()) == ["native/words"]
    assert shared.facts_blob() == before
    assert traffic(shared.proxy.requests)["POST upload"] == 2, "the layer and its listing"
    assert traffic(shared.proxy.requests).get("GET blob", 0) == 0
    assert all_warnings(ended) == []
    shared.build()  # nothing changed
    assert set(traffic(shared.proxy.requests)) == {"GET manifest"}


def test_blob_lost_by_the_registry_is_not_referenced_again(shared: Shared) -> None:
    before = shared.facts_blob()
    assert before
    shared.proxy.fault("", f"/blobs/{before.digest}", Fault(status=404, body=b""))
    shared.word("two")
    ended = shared.build()
    assert list(ended.built()) == ["native/words"]
    assert all_warnings(ended) == []
    assert shared.facts_blob() not in (None, before), "it has no facts for most layers"
    shared.library()
    (warning,) = warnings(shared.build())
    assert "libmore.so.1" in warning
    assert shared.proxy.count("GET", _ENTRIES) > 1, "so their records are requested"
    put(shared.tiny, "lib64/libtwo.so.1", make_elf(soname="libtwo.so.1", machine=_MACHINE))
    assert warnings(shared.build()) == [warning]
    assert shared.proxy.count("GET", _ENTRIES) == 1, "and lists their facts again"


@pytest.mark.parametrize("how", ["old", "nonsense", "another", "lost", "damaged"])
def test_records_are_requested_if_the_stage_index_has_no_facts(shared: Shared, tmp_path: Path, how: str) -> None:
    index = json.dumps(read_manifest(shared.tiny, shared.index_ref)).encode()
    entries = list(decode_stage_index(index).records.values())
    facts, nonsense = shared.facts_blob(), b"no zlib"
    assert facts
    if how == "old":
        put_entry(shared.tiny, tmp_path / "index", shared.index_ref, encode_stage_index(entries), EMPTY)
    elif how == "nonsense":
        data = encode_stage_index(entries, FactsBlob(Digest.of(nonsense), len(nonsense)))
        put_entry(shared.tiny, tmp_path / "index", shared.index_ref, data, EMPTY, nonsense)
    elif how == "another":
        data = encode_stage_index(entries, FactsBlob(Digest.of(nonsense), len(nonsense) + 1))
        put_entry(shared.tiny, tmp_path / "index", shared.index_ref, data, EMPTY, nonsense)
    else:
        fault = Fault(status=404, body=b"") if how == "lost" else Fault(flip=20)
        shared.proxy.fault("GET", f"/blobs/{facts.digest}", fault)
    shared.library()
    ended = shared.build()
    (warning,) = warnings(ended)
    assert "libmore.so.1" in warning
    assert shared.proxy.count("GET", _ENTRIES) == len(entries), "the record of the new layer, and those of the others"
    refused = [line for line in all_warnings(ended) if "refused from the remote cache" in line]
    assert len(refused) == (0 if how == "old" else 1), ended.text


def test_command_and_user_that_are_not_in_the_image_are_said_by_every_build(tiny: Tiny) -> None:
    assert "will not start" not in tiny.build("app").text
    tiny.replace("stages/app/stage.toml", 'cmd = ["/bin/sh", "main.sh"]', 'cmd = ["uvicorn"]')
    tiny.replace("stages/app/stage.toml", 'user = "1000"', 'user = "nobody2"')
    for _ in range(2):
        said = tiny.build("app").text
        assert "will not start: `uvicorn` of the command is in no folder of PATH (stages/app/stage.toml" in said
        assert "will not start: the user `nobody2` is not in /etc/passwd of the image" in said
