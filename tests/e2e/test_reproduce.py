"""``nox -s reproduce`` reports layers as reproduced, and explains the differences of one that is not."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
import zstandard

from tests.e2e.conftest import new_tiny
from tests.e2e.survival import damage
from tests.e2e.tinyproject import SessionResult, Tiny, one_error
from tests.ledgers import update_checksums
from tests.otlpcollector import serve_collector
from tests.waiting import wait_until

pytestmark = pytest.mark.tools
MADE = (
    "/opt/venv",
    "deps/bulk",
    "deps/bin-0",
    "deps/bin-1",
    "deps/bin-2",
    "models/greeter",
    "models/speller",
    "app/app",
)
SITE = "opt/venv/lib/python3.13/site-packages"
MODE, MTIME, CHECKSUM = slice(100, 108), slice(136, 148), slice(148, 156)


@pytest.fixture(scope="module")
def shared(template: Any, registry: str, links: Any) -> Iterator[Tiny]:
    """A project whose layers are built, for tests that leave its cache as they find it."""
    tiny = new_tiny(template, registry, links)
    tiny.build("app", "--no-import")
    yield tiny
    tiny.remove()


@pytest.fixture
def built(shared: Tiny) -> Iterator[Tiny]:
    """`built`, whose ledger and project are restored afterwards."""
    kept = shared.folder / "kept"
    kept.mkdir()
    for name in ("project", "cache"):
        shutil.copytree(shared.folder / name, kept / name, symlinks=True)
    yield shared
    for name in ("project", "cache"):
        shutil.rmtree(shared.folder / name)
        (kept / name).rename(shared.folder / name)
    kept.rmdir()


def reproduce(tiny: Tiny, *arguments: str, code: int = 0, **env: str) -> tuple[dict[str, Any], str]:
    """Run it; its JSON, and all that it said."""
    file = tiny.folder / "twice.json"
    ended = tiny.run("reproduce", *arguments, "--json", str(file), **env)
    assert ended.code == code, ended.text
    assert tiny.left_over() == []
    return json.loads(file.read_text()), ended.text


def verdicts(found: dict[str, Any]) -> dict[str, str]:
    return {layer["name"]: layer["verdict"] for layer in found["layers"]}


def differences(found: dict[str, Any]) -> list[tuple[str, ...]]:
    return [(x["name"], *one.values()) for x in found["layers"] for one in x["differences"]]


def plant(tiny: Tiny, name: str, change: Callable[[bytearray], None]) -> None:
    """Store another tar under a layer's key, as if it had been built so."""
    with closing(sqlite3.connect(tiny.cache / "ledger.sqlite", isolation_level=None)) as db:
        key, blobs = db.execute("SELECT key, blobs FROM layers WHERE name = ?", (name,)).fetchone()
        ((digest, _, _, _, how),) = json.loads(blobs)
        data = (tiny.cache / "sha256" / digest).read_bytes()
        tar = bytearray(zstandard.ZstdDecompressor().decompressobj().decompress(data) if how == "zstd" else data)
        change(tar)
        stored = zstandard.ZstdCompressor().compress(bytes(tar))
        row = [hashlib.sha256(stored).hexdigest(), hashlib.sha256(tar).hexdigest(), len(stored), len(tar), "zstd"]
        (tiny.cache / "sha256" / row[0]).write_bytes(stored)
        db.execute("UPDATE layers SET blobs = ? WHERE key = ?", (json.dumps([row]), key))
    update_checksums(tiny.cache / "ledger.sqlite")


def set_field(member: str, field: slice, value: bytes) -> Callable[[bytearray], None]:
    """Change a field of a member's header, and its checksum."""

    def change(tar: bytearray) -> None:
        at = find(tar, member).offset_data - 512
        block = tar[at : at + 512]
        block[field] = value
        block[CHECKSUM] = b" " * 8
        block[CHECKSUM] = b"%06o\0 " % sum(block)
        tar[at : at + 512] = block

    return change


def rewrite(member: str, how: Callable[[bytes], bytes]) -> Callable[[bytearray], None]:
    """Change a member's content to another of the same length."""

    def change(tar: bytearray) -> None:
        info = find(tar, member)
        part = slice(info.offset_data, info.offset_data + info.size)
        new = how(bytes(tar[part]))
        assert len(new) == info.size
        tar[part] = new

    return change


def find(tar: bytearray, member: str) -> tarfile.TarInfo:
    with tarfile.open(fileobj=io.BytesIO(tar)) as opened:
        return opened.getmember(member)


def test_stage_is_reproduced(tiny: Tiny) -> None:
    found, output = reproduce(tiny, "app")
    assert found["stage"] == "app"
    assert found["agrees"] is True
    assert verdicts(found) == {"base/image": "pinned", **dict.fromkeys(MADE, "agrees")}
    again = tiny.build("app", "--no-import")
    assert again.built() == {}
    before = tiny.snapshot()
    digests = {layer["name"]: layer["digest"] for layer in again.report["layers"]}
    assert {x["name"]: x["first"]["digest"] for x in found["layers"]} == digests
    assert {x["name"]: x["second"]["digest"] for x in found["layers"] if x["second"]} == {n: digests[n] for n in MADE}
    assert f"app: {len(MADE)} layers of" in output
    assert "came out the same" in output
    assert output.count("pack  models/greeter") == 2, "it was made, and made again"
    reproduce(tiny, "app")
    assert tiny.snapshot() == before, "the second build leaves nothing in the cache, and no image"
    assert tiny.images() == {}


def test_difference_is_reported_by_layer_member_and_field(built: Tiny) -> None:
    plant(built, "app/app", set_field("app/main.sh", MTIME, b"14524770400\0"))
    plant(built, "models/greeter", set_field("models/greeter", MODE, b"0000700\0"))
    plant(built, "deps/bin-2", rewrite(f"{SITE}/alpha-1.0.dist-info/RECORD", reverse_lines))
    plant(built, "deps/bin-1", rewrite(f"{SITE}/beta/__init__.py", lambda old: old.replace(b"1", b"2")))
    plant(built, "deps/bulk", rewrite(f"{SITE}/bulk/data.bin", lambda old: old[:-1] + bytes([old[-1] ^ 1])))
    found, output = reproduce(built, "app", code=1)
    assert found["agrees"] is False
    wrong = {"app/app", "models/greeter", "deps/bin-2", "deps/bin-1", "deps/bulk"}
    assert {name for name, verdict in verdicts(found).items() if verdict == "differs"} == wrong
    listed = {(layer, member): (field, first, second) for layer, member, field, first, second in differences(found)}
    assert len(listed) == 5
    moments = "1700000000 (2023-11-14 22:13:20 UTC)", "0 (1970-01-01 00:00:00 UTC)"
    assert listed["app/app", "app/main.sh"] == ("mtime", *moments)
    assert listed["models/greeter", "models/greeter"] == ("mode", "0700", "0755")
    assert listed["deps/bin-2", f"{SITE}/alpha-1.0.dist-info/RECORD"][0] == "RECORD order, from line 1"
    assert listed["deps/bin-1", f"{SITE}/beta/__init__.py"] == (
        "line 1", "'VERSION = \"2.0\"\\n'", "'VERSION = \"1.0\"\\n'",
    )  # fmt: skip
    assert listed["deps/bulk", f"{SITE}/bulk/data.bin"][0] == "byte 99999"
    assert "models/greeter: models/greeter: mode: 0700 ≠ 0755\n" in output
    assert "app: 5 layers differ, 3 layers of" in output
    assert "hint" not in output


def reverse_lines(data: bytes) -> bytes:
    return b"".join(reversed(data.splitlines(keepends=True)))


def test_json_output_holds_only_the_result_and_the_session_is_traced(built: Tiny) -> None:
    plant(built, "app/app", set_field("app/words.txt", MODE, b"0000600\0"))
    argv = built.argv("reproduce", "app", "--json")
    with serve_collector() as collector:
        env = built.env | {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
        done = subprocess.run(argv, cwd=built.folder, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert {"reproduce", "second build", "compare"} <= {span.name for span in collector.spans}
    assert differences(json.loads(done.stdout)) == [("app/app", "app/words.txt", "mode", "0600", "0644")]


def test_different_compression_is_a_difference(built: Tiny) -> None:
    plant(built, "models/greeter", lambda tar: None)
    found, _ = reproduce(built, "models", code=1)
    ((layer, member, field, *_),) = differences(found)
    assert (layer, member, field) == ("models/greeter", "", "compression")


def test_steps_are_reused_unless_requested(tiny: Tiny) -> None:
    tiny.build("tools", "--no-import")
    plant(tiny, "tools/write", set_field("opt/tools/made", MODE, b"0100600\0"))
    found, output = reproduce(tiny, "tools")
    steps = {"tools/write": "not claimed", "tools/link": "not claimed"}
    assert verdicts(found) == {"base/image": "pinned", **steps, **dict.fromkeys(MADE, "agrees")}
    assert "run  tools" not in output
    found, output = reproduce(tiny, "tools", "--steps", code=1)
    assert "run  tools/write" in output
    assert ("tools/write", "opt/tools/made", "mode", "100600", "100644") in differences(found)


def test_layers_of_a_remote_cache_are_compared(tiny: Tiny, registry: str, make_tiny: Callable[[], Tiny]) -> None:
    repository = f"{registry}/reproduce/shared"
    tiny.build("app", "--no-import")
    plant(tiny, "app/app", set_field("app/main.sh", MODE, b"0000700\0"))
    tiny.build("app", "--no-import", "--cache-write", repository)
    here = make_tiny()
    found, output = reproduce(here, "app", "--cache", repository, code=1)
    assert "pull  app/app" in output
    assert differences(found) == [("app/app", "app/main.sh", "mode", "0700", "0644")]
    assert {x["name"] for x in found["layers"] if x["verdict"] == "agrees"} == set(MADE) - {"app/app"}


def test_damaged_download_is_fetched_again(built: Tiny) -> None:
    (wheel,) = built.cache.glob("files/*/bulk-1.0-*.whl")
    damage(wheel, "flipped")
    data = wheel.read_bytes()
    found, _ = reproduce(built, "deps")
    assert found["agrees"] is True
    assert wheel.read_bytes() == data, "what the second build does to its cache is not done to ours"


def test_damaged_layer_is_an_error_and_built_again_next_time(built: Tiny) -> None:
    plant(built, "app/app", set_field("app/main.sh", MODE, b"0000600\0"))
    with closing(sqlite3.connect(built.cache / "ledger.sqlite")) as db:
        (blobs,) = db.execute("SELECT blobs FROM layers WHERE name = 'app/app'").fetchone()
    blob = built.cache / "sha256" / json.loads(blobs)[0][0]
    blob.write_bytes(blob.read_bytes()[:-1] + b"!")
    message = one_error(built.run("reproduce", "app"), 1)
    assert "app/app: the cached layer was damaged" in message
    found, _ = reproduce(built, "app")
    assert found["agrees"] is True


def test_project_without_git_and_name_is_reproduced(built: Tiny) -> None:
    shutil.rmtree(built.project / ".git")
    built.replace("pyproject.toml", 'name = "tiny"\n', "")
    found, output = reproduce(built, "app")
    assert found["agrees"] is True
    assert output.count("not in a git repository") == 1


def test_files_are_copied_as_they_are(built: Tiny) -> None:
    app = built.project / "stages/app/app"
    (app / "run").write_text("#!/bin/sh\n")
    (app / "run").chmod(0o755)
    (app / "link to run").symlink_to("run")
    (app / "nowhere").symlink_to("/no/such/file")
    built.git("add", ".")
    (app / "not tracked").write_text("")
    built.write(".containerignore", "**/words.txt\n")
    built.write("models/greeter/weights.txt", "others than the lock's")
    found, output = reproduce(built, "app")
    assert found["agrees"] is True
    assert output.count("models/greeter/weights.txt: model `greeter` differs") == 1
    blob = built.cache / "sha256" / found["layers"][-1]["second"]["digest"].removeprefix("sha256:")
    data = zstandard.ZstdDecompressor().decompressobj().decompress(blob.read_bytes())
    with tarfile.open(fileobj=io.BytesIO(data)) as opened:
        assert opened.getnames() == ["app", "app/link to run", "app/main.sh", "app/nowhere", "app/run"]


def test_git_variables_of_another_repository_are_ignored(built: Tiny) -> None:
    index = built.project / ".git/index"
    before = index.read_bytes()
    found, _ = reproduce(built, "app", GIT_DIR=str(built.project / ".git"), GIT_INDEX_FILE=str(index))
    assert found["agrees"] is True
    assert index.read_bytes() == before


def test_wrong_reproduce_request_is_refused(built: Tiny) -> None:
    assert "did you mean app?" in one_error(built.run("reproduce", "ap"), 2)
    message = one_error(built.run("reproduce", "app", "--json", "/nowhere/at/all.json"), 2)
    assert "/nowhere/at/all.json: this file cannot be written" in message
    assert "usage" in one_error(built.run("reproduce"), 2)


_SPY = """#!/bin/sh
{
    umask
    printf '%%s\\n' "$TZ" "$LANG" "$HOME" "$PYTHONHASHSEED" "$SOURCE_DATE_EPOCH" "$BUILDKIT_CACHE" "$PWD"
    stat -c '%%a %%Y' stages/app/app/words.txt
    echo end
} >> %s
exec %s "$@"
"""


def test_second_build_differs_in_every_documented_respect(built: Tiny) -> None:
    record = built.folder / "spied"
    spy = built.folder / "bin" / "git"  # both builds ask it which files belong to the checkout
    spy.parent.mkdir()
    spy.write_text(_SPY % (record, shutil.which("git")))
    spy.chmod(0o755)
    env = {"TZ": "Pacific/Kiritimati", "PATH": f"{spy.parent}:{built.env['PATH']}"}
    found, _ = reproduce(built, "app", "--jobs", "4", **env)
    calls = [call.split("\n") for call in record.read_text().split("end\n")[:-1]]
    first, second = calls[0], calls[-1]
    assert len(first) == len(second) == 10
    same = [one for one, other in zip(first[:-1], second[:-1], strict=True) if one == other]
    assert same == [], "nothing of it is as it was"
    varied = found["varied"]
    assert second[0] == varied["umask"] == "0077"
    assert second[1:3] == [varied["TZ"], varied["LANG"]] == ["America/St_Johns", "tr_TR.UTF-8"]
    assert second[4:6] == [varied["PYTHONHASHSEED"], varied["SOURCE_DATE_EPOCH"]]
    assert second[8] == "600 1000000000"
    assert varied["jobs"] == "2"
    _, text = reproduce(built, "app", "--jobs", "2")
    packed = [line.split()[1] for line in text.splitlines() if line.split()[:1] == ["pack"]]
    ours = [name for name in packed if not name.startswith("models/")]  # models are scanned first
    assert ours == [name for name in reversed(MADE) if name in ours], "one at a time, and the last first"
    assert sorted(packed) == sorted(MADE)


@contextmanager
def oracle() -> Iterator[tuple[int, list[socket.socket]]]:
    """A server that answers the first who connects, and no other: its port, and the connections."""
    callers: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def take() -> None:
            while True:
                try:
                    callers.append(server.accept()[0])
                except OSError:
                    return
                if len(callers) == 1:
                    callers[0].sendall(b"go\n")

        threading.Thread(target=take, daemon=True).start()
        yield server.getsockname()[1], callers
        server.shutdown(socket.SHUT_RDWR)
        for caller in callers:
            caller.close()


def ask(tiny: Tiny, port: int) -> None:
    """Let the stage `tools` have a step that asks the oracle whether to go on."""
    script = f"exec 3<>/dev/tcp/127.0.0.1/{port}; read word <&3; echo it says $word; test $word = go"
    step = f'[[run]]\nname = "ask"\nnetwork = true\nscript = "{script}"\n'
    tiny.write("stages/tools/stage.toml", f'summary = "asks"\nfrom = "base"\n{step}')


def test_interrupted_second_build_leaves_nothing(tiny: Tiny) -> None:
    with oracle() as (port, callers):
        ask(tiny, port)
        child = subprocess.Popen(
            tiny.argv("reproduce", "tools", "--steps"), cwd=tiny.folder, env=tiny.env,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip
        wait_until(lambda: len(callers) == 2 or child.poll() is not None)
        os.killpg(child.pid, signal.SIGINT)
        text, _ = child.communicate(timeout=60)
    ended = SessionResult(code=child.returncode, text=text)
    assert ended.code == 130, ended.text
    assert "Traceback" not in ended.text
    assert "interrupted" in ended.text
    assert tiny.left_over() == []
    assert not subprocess.run(("pgrep", "--full", str(tiny.folder)), capture_output=True).stdout


def test_failing_second_build_is_reported(tiny: Tiny) -> None:
    with oracle() as (port, callers):
        ask(tiny, port)

        def refuse() -> None:
            wait_until(lambda: len(callers) == 2)
            callers[1].sendall(b"stay\n")

        threading.Thread(target=refuse, daemon=True).start()
        ended = tiny.run("reproduce", "tools", "--steps")
    message = one_error(ended, 1)
    assert "error: building again: tools/ask: " in message
    assert "it says stay" in ended.text
    assert tiny.left_over() == []
