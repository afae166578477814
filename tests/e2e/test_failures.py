"""Builds that fail: one message with a hint, exit code 1, and cache and storage stay consistent."""

from __future__ import annotations

import hashlib
import random
import re
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from buildkit.declare.project import load_project
from buildkit.locks.freshness import render_header, wheels_inputs
from tests.e2e.conftest import add_wheel
from tests.e2e.tinyproject import SessionResult, Tiny, one_error
from tests.layers.wheelmaker import append

pytestmark = pytest.mark.tools

_EDIT = """from pathlib import Path
from buildkit.build import build_layers as build
kept = build.run_tasks
def run_tasks(*args):
    path = Path({file!r})
    path.write_bytes(path.read_bytes()[::-1])
    kept(*args)
build.run_tasks = run_tasks
"""


def require(tiny: Tiny, *lines: str) -> None:
    """Lock other requirements."""
    tiny.write("requirements/app.in", "".join(f"{line}\n" for line in lines))
    tiny.lock()


def pin_again(tiny: Tiny, wheel: Path, data: bytes) -> None:
    """Let the locks pin other bytes of a wheel, as if its index had always served them."""
    old, new = (hashlib.sha256(one).hexdigest() for one in (wheel.read_bytes(), data))
    size = wheel.stat().st_size
    wheel.write_bytes(data)
    tiny.replace("requirements/app.txt", old, new)
    tiny.replace("requirements/app.wheels.toml", old, new)
    tiny.replace("requirements/app.wheels.toml", f"size = {size}", f"size = {len(data)}")
    made_from = wheels_inputs((tiny.project / "requirements/app.txt").read_text(), load_project(tiny.project).target)
    lock = tiny.project / "requirements/app.wheels.toml"
    lock.write_text(render_header(made_from) + lock.read_text().partition("\n")[2])


def unharmed(tiny: Tiny) -> None:
    """Nothing half-built, no image, and no record of a build."""
    assert tiny.left_over() == []
    assert tiny.rows("builds") == []
    assert not [name for name in tiny.images() if name.endswith("app:latest")]


@pytest.mark.parametrize(
    ("stage", "path"), [("app", "stages/app/app/main.sh"), ("models", "models/greeter/weights.txt")]
)
def test_repository_file_edited_during_the_build_fails_it(tiny: Tiny, stage: str, path: str) -> None:
    with tiny.after(_EDIT.format(file=str(tiny.project / path))):
        message = tiny.refuse(stage, "--no-import", code=1)
    assert f"{path} has changed since the build began\n" in message
    assert "hint: build again\n" in message
    unharmed(tiny)
    tiny.build(stage, "--no-import", "--changed-models")


def test_download_with_wrong_hash_is_refused(tiny: Tiny) -> None:
    wheel = tiny.folder / "links/alpha-1.0-py3-none-any.whl"
    data = wheel.read_bytes()
    wheel.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    message = tiny.refuse("app", code=1)
    assert "alpha==1.0 (alpha-1.0-py3-none-any.whl): the lock says" in message
    assert "hint:" in message
    unharmed(tiny)
    wheel.write_bytes(data)
    tiny.build("app")


def test_download_of_wrong_length_is_refused(tiny: Tiny) -> None:
    wheel = tiny.folder / "links/alpha-1.0-py3-none-any.whl"
    data = wheel.read_bytes()
    for wrong in (data + b"more", data[:100]):
        wheel.write_bytes(wrong)
        assert "alpha==1.0" in tiny.refuse("app", code=1)
        unharmed(tiny)


def test_wheel_with_escaping_paths_is_refused(tiny: Tiny) -> None:
    append(add_wheel(tiny.folder / "links", "hostile", "1.0"), "../../../../etc/cron.d/x", b"* * * * *")
    require(tiny, "alpha==1.0", "hostile==1.0")
    message = tiny.refuse("app", code=1)
    assert "hostile" in message
    assert "../../../../etc/cron.d/x" in message
    unharmed(tiny)


@pytest.mark.parametrize("how", ["damaged", "truncated"])
def test_locked_but_corrupt_wheel_is_refused(tiny: Tiny, how: str) -> None:
    wheel = tiny.folder / "links/alpha-1.0-py3-none-any.whl"
    data = bytearray(wheel.read_bytes())
    at = data.index(b"alpha/__init__.py") + len(b"alpha/__init__.py")
    data[at + 2 : at + 6] = b"\xff\xff\xff\xff"
    pin_again(tiny, wheel, bytes(data) if how == "damaged" else bytes(data[:-40]))
    message = tiny.refuse("app", code=1)
    assert "alpha-1.0-py3-none-any.whl" in message
    unharmed(tiny)


@pytest.mark.parametrize(("one", "other"), [("alpha", "beta"), ("beta", "delta")], ids=["two bins", "one bin"])
def test_colliding_wheels_are_reported(tiny: Tiny, one: str, other: str) -> None:
    for name in (one, other):
        add_wheel(tiny.folder / "links", name, "3.0", {"shared/thing.py": name.encode()})
    settled = f'prefer = ["{one}"]\n'  # or it would be found when they are locked
    tiny.replace("stages/deps/stage.toml", "[wheels]\n", f"[wheels]\n{settled}")
    require(tiny, f"{one}==3.0", f"{other}==3.0")
    tiny.replace("stages/deps/stage.toml", settled, "")
    message = tiny.refuse("app", code=1)
    assert "shared/thing.py" in message
    assert one in message
    assert other in message
    assert "hint:" in message
    unharmed(tiny)


def test_wheels_sharing_an_identical_file_are_accepted(tiny: Tiny) -> None:
    for name in ("alpha", "beta"):
        add_wheel(tiny.folder / "links", name, "3.0", {"shared/thing.py": b"the same"})
    require(tiny, "alpha==3.0", "beta==3.0")
    tiny.build("app")


def test_wheel_colliding_with_a_copied_file_is_reported(tiny: Tiny) -> None:
    target = "/opt/venv/lib/python3.13/site-packages/alpha"
    tiny.replace("stages/app/stage.toml", 'target = "/app"', f'target = "{target}"')
    tiny.write("stages/app/app/__init__.py", "other")
    tiny.git("add", ".")
    message = tiny.refuse("app", code=1)
    assert "alpha/__init__.py" in message
    assert "app/app" in message
    unharmed(tiny)


def test_missing_model_file_is_reported(tiny: Tiny) -> None:
    (tiny.project / "models/speller/weights.txt").unlink()
    message = tiny.refuse("app", code=1)
    assert "models/speller/weights.txt" in message
    assert "speller" in message
    assert "hint:" in message
    unharmed(tiny)


def test_missing_model_file_is_not_needed_if_its_layer_is_cached(tiny: Tiny) -> None:
    tiny.build("app")
    (tiny.project / "models/speller/weights.txt").unlink()
    assert tiny.build("app").built() == {}


def test_several_failures_are_reported_in_one_message(tiny: Tiny) -> None:
    (tiny.project / "models/speller/weights.txt").unlink()
    (tiny.project / "models/greeter/weights.txt").unlink()
    message = tiny.refuse("models", code=1)
    assert "models/speller/weights.txt" in message
    assert "models/greeter/weights.txt" in message
    assert tiny.left_over() == []


def test_layers_independent_of_a_failure_are_finished(tiny: Tiny) -> None:
    (tiny.project / "models/speller/weights.txt").unlink()
    tiny.refuse("app", code=1)
    (tiny.project / "models/speller/weights.txt").write_text("weights again")
    assert list(tiny.build("app", "--changed-models").built()) == ["models/speller"]


def test_full_disk_is_reported(tiny: Tiny) -> None:
    (tiny.project / "models/greeter/large.bin").write_bytes(random.Random(2).randbytes(6 << 20))
    tiny.lock()
    tiny.cache.mkdir()
    argv = tiny.argv("build-models", "--no-import")
    mount = 'mount -t tmpfs -o size=3m,mode=700 none "$BUILDKIT_CACHE"'
    script = f'{mount} && "$@"; code=$?; find "$BUILDKIT_CACHE" -type f; exit $code'
    unshare = ("unshare", "--map-root-user", "--mount", "sh", "-c", script, "sh", *argv)
    done = subprocess.run(unshare, env=tiny.env, cwd=tiny.folder, capture_output=True, text=True)
    ended = SessionResult(code=done.returncode, text=done.stderr)
    message = one_error(ended, 1)
    assert str(tiny.cache) in message
    assert "disk is full" in message
    assert "BUILDKIT_CACHE" in message.partition("hint:")[2]
    assert not [line for line in done.stdout.splitlines() if "/tmp/" in line.removeprefix(str(tiny.cache))]


def test_unusable_cache_folder_is_reported(tiny: Tiny) -> None:
    (tiny.folder / "file").write_text("")
    message = tiny.refuse("app", code=1, BUILDKIT_CACHE=str(tiny.folder / "file/cache"))
    assert "file/cache" in message
    assert "BUILDKIT_CACHE" in message


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_step_leaves_nothing_behind(
    tiny: Tiny, listener: tuple[int, list[object]], number: signal.Signals
) -> None:
    port, callers = listener
    script = f"echo here > /dev/tcp/127.0.0.1/{port}; sleep 60"
    step = f'summary = "slow"\nfrom = "app"\n[[run]]\nname = "slow"\nnetwork = true\nscript = "{script}"\n'
    tiny.write("stages/tools/stage.toml", step)
    ended = tiny.interrupt("tools", number, when=lambda: bool(callers))
    assert ended.code == 130, ended.text
    assert "Traceback" not in ended.text
    assert "interrupted" in ended.text
    assert tiny.left_over() == []
    assert not subprocess.run(("pgrep", "--full", f"127.0.0.1/{port}"), capture_output=True).stdout
    tiny.write("stages/tools/stage.toml", step.replace("sleep 60", "sleep 0"))
    tiny.build("tools")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_download_leaves_nothing_behind(tiny: Tiny, number: signal.Signals) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.01)
        asked: list[socket.socket] = []

        def is_asked() -> bool:
            try:
                asked.append(server.accept()[0])
            except TimeoutError:
                return False
            return True

        index = f"http://127.0.0.1:{server.getsockname()[1]}/simple"
        env = {"PIP_NO_INDEX": "0", "PIP_FIND_LINKS": "", "PIP_INDEX_URL": index, "PIP_DEFAULT_TIMEOUT": "3"}
        ended = tiny.interrupt("app", number, when=is_asked, **env)
        for connection in asked:
            connection.close()
    assert ended.code == 130, ended.text
    assert "Traceback" not in ended.text
    unharmed(tiny)
    tiny.build("app")


def test_unreachable_index_is_reported(tiny: Tiny) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = server.getsockname()[1]
    index = f"http://127.0.0.1:{closed}/simple"
    message = tiny.refuse("app", code=1, PIP_NO_INDEX="0", PIP_FIND_LINKS="", PIP_INDEX_URL=index)
    assert "127.0.0.1" in message
    assert "hint:" in message
    unharmed(tiny)


def test_unreachable_registry_fails_the_build_with_its_name(tiny: Tiny) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = server.getsockname()[1]
    image = f"127.0.0.1:{closed}/tiny/root@sha256:{'0' * 64}"
    tiny.write("stages/base/stage.toml", f'summary = "x"\n[root]\nimage = "{image}"\n')
    message = tiny.refuse("app", code=1)
    assert image in message
    unharmed(tiny)


def test_image_missing_from_the_registry_is_reported(tiny: Tiny, registry: str) -> None:
    image = f"{registry}/tiny/root@sha256:{'0' * 64}"
    tiny.write("stages/base/stage.toml", f'summary = "x"\n[root]\nimage = "{image}"\n')
    message = tiny.refuse("app", code=1)
    assert image in message
    unharmed(tiny)


@pytest.mark.parametrize(("tool", "stage"), [("skopeo", "app"), ("buildah", "tools")])
def test_missing_tool_is_reported(tiny: Tiny, tool: str, stage: str) -> None:
    folder = tiny.folder / "bin"
    folder.mkdir()
    for place in tiny.env["PATH"].split(":"):
        for path in Path(place).glob("*"):
            if path.name != tool and not (folder / path.name).is_symlink():
                (folder / path.name).symlink_to(path)
    message = tiny.refuse(stage, code=1, PATH=str(folder))
    assert f"{tool} is not installed" in message
    assert f"apt-get install {tool}" in message
    assert tiny.left_over() == []


def test_layer_damaged_in_the_cache_is_repaired(tiny: Tiny) -> None:
    tiny.build("app")
    tiny.tool("buildah", "rmi", "--all", "--force")
    path = max(tiny.cache.glob("sha256/*"), key=lambda one: one.stat().st_size)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    mended = tiny.build("app")
    assert path.name[:12] in mended.text
    assert "planning again" in mended.text
    (cause,) = mended.built().values()
    assert re.fullmatch(r"its blob was damaged and removed on \d{4}-\d\d-\d\d: found by a build", cause)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
    assert tiny.run_image("app") == "hello from /app\n"
    assert tiny.left_over() == []


def test_image_that_was_saved_and_loaded_can_be_rebuilt(tiny: Tiny) -> None:
    """Storage then finds its layers by their zstd digests no more, unless it remembers which tars they were."""
    tiny.build("app")
    archive = tiny.folder / "app.tar"
    tiny.tool("skopeo", "copy", "--quiet", "containers-storage:localhost/tiny/app:latest", f"docker-archive:{archive}")
    tiny.tool("buildah", "rmi", "--all", "--force")
    tiny.tool("skopeo", "copy", "--quiet", f"docker-archive:{archive}", "containers-storage:localhost/tiny/app:latest")
    for path in tiny.cache.glob("sha256/*"):
        path.unlink()
    tiny.replace("stages/app/app/main.sh", "from", "out of")
    changed = tiny.build("app")
    assert tiny.run_image("app") == "hello out of /app\n", changed.text
    assert tiny.left_over() == []


def test_layer_known_only_from_a_removed_image_is_rebuilt(tiny: Tiny) -> None:
    tiny.build("app")
    tiny.build("models")
    tiny.tool("buildah", "rmi", "localhost/tiny/models:latest")
    for path in tiny.cache.glob("sha256/*"):
        path.unlink()
    tiny.replace("stages/models/stage.toml", "summary =", "ships = true\nsummary =")
    both = tiny.run("build")
    assert both.code == 0, both.text
    assert {path.name for path in tiny.cache.glob("sha256/*")} >= {
        layer["digest"].removeprefix("sha256:") for layer in both.report[1]["layers"]
    }
    assert tiny.left_over() == []
