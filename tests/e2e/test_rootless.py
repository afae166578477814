"""An ordinary user builds: into storage of their own, with the same digests as root."""

from __future__ import annotations

import json
import os
import pwd
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.tinyproject import SessionResult, Tiny
from tests.monitor.test_metrics import read
from tests.users import become, ordinary_user, python_of
from tests.waiting import wait_until

pytestmark = [pytest.mark.tools, pytest.mark.network]

_LOOK = Path(__file__).with_name("acts") / "look.py"


@pytest.fixture(scope="module")
def user() -> Iterator[pwd.struct_passwd]:
    """An ordinary user with a range of subordinate ids."""
    with ordinary_user("buildkit-e2e") as account:
        yield account


@pytest.fixture(scope="module")
def interpreter(user: pwd.struct_passwd) -> Iterator[str]:
    """A Python with buildkit that the user may run."""
    with python_of(user) as path:
        yield path


@pytest.fixture
def user_tiny(make_tiny: Callable[[], Tiny], user: pwd.struct_passwd, interpreter: str) -> Tiny:
    """A tiny project that belongs to the user, run as the user."""
    tiny = make_tiny()
    tiny.env |= {"USER": user.pw_name, "LOGNAME": user.pw_name}
    tiny.belong_to_user()
    tiny.env.pop("PYTHONPATH", None)
    if os.geteuid() == 0:
        subprocess.run(("chown", "--recursive", f"{user.pw_uid}:{user.pw_gid}", str(tiny.folder)), check=True)
        tiny.before = become(user)
    tiny.python, tiny.by_nox = interpreter, True
    return tiny


def test_ordinary_user_builds_the_same_image_into_their_own_storage(tiny: Tiny, user_tiny: Tiny) -> None:
    mine = tiny.build("tools")
    built = user_tiny.build("tools")
    assert steps_aside(built) == steps_aside(mine)
    name = user_tiny.tool("buildah", "from", "localhost/tiny/tools:latest").strip()
    assert user_tiny.tool("buildah", "run", "--isolation=chroot", name, "cat", "/opt/tools/copy").startswith("of the")
    user_tiny.tool("buildah", "rm", name)
    assert user_tiny.left_over() == []
    assert "<none>:<none>" in user_tiny.images(), "a step that was committed"
    cleared = user_tiny.run("cache", "gc", "--keep-days", "0")
    assert cleared.code == 0, cleared.text
    assert "<none>:<none>" not in user_tiny.images()
    assert user_tiny.build("tools").report["bytes"] == {"fetched": 0, "built": 0, "imported": 0, "pushed": 0}


def test_step_of_an_ordinary_user_sees_its_secret_and_leaves_no_trace(user_tiny: Tiny) -> None:
    step = (
        'summary = "a step"\nfrom = "base"\n[[run]]\nsecrets = ["token"]\nscript = "cat /run/secrets/token; exit 3"\n'
    )
    user_tiny.write("stages/tools/stage.toml", step)
    failing = user_tiny.run("build-tools", BUILDKIT_SECRET_TOKEN="planted-for-an-ordinary-user")
    assert "[secret]" in failing.text  # it was read, and is masked
    assert "planted" not in failing.text
    user_tiny.write("stages/tools/stage.toml", step.replace("; exit 3", " > /dev/null"))
    user_tiny.build("tools", BUILDKIT_SECRET_TOKEN="planted-for-an-ordinary-user")
    name = user_tiny.tool("buildah", "from", "localhost/tiny/tools:latest").strip()
    look = ("/bin/sh", "-c", "test -e /run/secrets || echo gone")
    assert user_tiny.tool("buildah", "run", "--isolation=chroot", name, *look) == "gone\n"
    user_tiny.tool("buildah", "rm", name)
    assert user_tiny.left_over() == []


def test_ordinary_user_runs_and_audits_an_image_with_missing_limits_reported(user_tiny: Tiny) -> None:
    user_tiny.write("stages/app/app/main.sh", "trap 'exit 0' TERM\nwhile :; do sleep 0.1; done\n")
    user_tiny.replace("stages/app/stage.toml", 'user = "1000"', 'user = "1000:1000"')
    user_tiny.build("app")
    done = user_tiny.run("run-app", "--no-build", "--", "/bin/sh", "-c", "id; exit 7")
    assert done.code == 7, done.text
    assert "uid=1000(1000) gid=1000(1000)" in done.text
    act = user_tiny.folder / "look.py"  # the user may not read the repository
    act.write_text(_LOOK.read_text())
    act.chmod(0o644)
    argv = (*user_tiny.before, user_tiny.python, str(act), str(user_tiny.project), "app")
    looked = subprocess.run(argv, env=user_tiny.env, cwd=user_tiny.folder, capture_output=True, text=True)
    assert looked.returncode == 0, looked.stderr
    words = {"no-memory-limit": "--memory=1g", "no-pids-limit": "--pids-limit=256"}
    weaker = {rule for rule, flag in words.items() if f"{flag} cannot be applied" in looked.stderr}
    assert set(json.loads(looked.stdout)) == {"health-blind", *weaker}
    assert all(f"{words[rule]} cannot be applied" in done.text for rule in weaker)
    watch_running_containers(user_tiny, weaker)
    user_tiny.tool("podman", "system", "migrate")  # ends the process that keeps the user's namespaces


def watch_running_containers(tiny: Tiny, weaker: set[str]) -> None:
    """Of a container as it should be, only what the host cannot do is found; a copied program is, too."""
    assert tiny.run("run-app", "--no-build", "--detach").code == 0

    def found() -> set[str]:
        done = tiny.run("audit-running", "--json")
        audit, _ = json.JSONDecoder().raw_decode(done.text[done.text.index("{") :])
        assert audit["complete"], audit
        assert {one["name"] for one in audit["containers"]} == {"tiny-app", *others}
        return {f"{one['container']}: {one['rule']}" for one in audit["findings"]}

    measure_running_containers(tiny, weaker)
    others: set[str] = set()
    assert found() == {f"tiny-app: {rule}" for rule in weaker}
    others.add("bad")
    tiny.tool(
        "podman", "run", "--detach", "--name=bad", "--network=none", "localhost/tiny/app:latest", "/bin/sleep", "600"
    )
    tiny.tool("podman", "cp", "/usr/bin/sleep", "bad:/usr/bin/evil")
    tiny.tool("podman", "exec", "--detach", "bad", "/usr/bin/evil", "600")
    wait_until(lambda: "bad: code-not-in-image" in found())
    assert {"bad: root-writable", "bad: process-capabilities"} <= found()
    tiny.tool("podman", "rm", "--all", "--force", "--time", "0")


def measure_running_containers(tiny: Tiny, weaker: set[str]) -> None:
    """An ordinary user's exporter and table have what the host gives to ordinary users, and nothing of others."""
    found = read(
        "\n".join(re.findall(r"^(?:container|xoe)_.*", tiny.run("monitor", "--print", "--all").text, re.MULTILINE))
    )
    (info,) = (dict(labels) for labels in found["xoe_container_info"])
    assert (info["name"], info["stage"], info["project"], info["current"]) == ("tiny-app", "app", "tiny", "true")
    label = (("image", "localhost/tiny/app:latest"), ("name", "tiny-app"))
    assert found["container_network_receive_bytes_total"][label] >= 0
    limit = found.get("container_spec_memory_limit_bytes", {}).get(label)
    assert limit == (None if "no-memory-limit" in weaker else 1 << 30)
    assert "sha256:" in info["digest"]
    assert '"name": "tiny-app"' in tiny.run("top", "--json", "--interval", "0.1").text


def test_podman_of_an_ordinary_user_runs_what_was_built_into_the_store(tiny: Tiny, user_tiny: Tiny) -> None:
    """Without a storage.conf and without a flag; the store's trees have files of several owners."""
    enabled = user_tiny.run("doctor", "--enable-store")
    assert enabled.code == 0, enabled.text
    built = user_tiny.build("tools")
    assert steps_aside(built) == steps_aside(tiny.build("tools"))
    assert user_tiny.run_image("tools", "cat", "/opt/tools/copy").startswith("of the")
    own = user_tiny.folder / "home/.local/share/containers/storage/overlay-images/images.json"
    assert json.loads(own.read_text() if own.exists() else "[]") == []
    assert user_tiny.build("tools").report["bytes"] == {"fetched": 0, "built": 0, "imported": 0, "pushed": 0}
    ran = user_tiny.run("run-app", "--", "/bin/sh", "-c", "exit 7")
    assert ran.code == 7, ran.text
    for argv in (("podman", "system", "migrate"), ("buildah", "unshare", "rm", "-rf", str(user_tiny.store))):
        user_tiny.tool(*argv)


def steps_aside(ended: SessionResult) -> dict[str, str]:
    """The digests of layers that no container made: see test_same_bytes for those."""
    return {name: diff_id for name, diff_id in ended.digests().items() if not name.startswith("tools/")}
