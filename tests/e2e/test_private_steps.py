"""Steps under ``chroot`` isolation: what one may read, another that runs at the same time does not see."""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Iterator

import pytest

from tests.e2e.test_secrets import CONTROL, SECRET, find
from tests.e2e.tinyproject import Tiny
from tests.tools.test_isolation import refuse_namespaces

pytestmark = pytest.mark.tools

_STEP = """summary = "a step"
from = "app"
[[run]]
name = "use"
network = true
{more}
script = '''
exec 3<>/dev/tcp/127.0.0.1/{port}
read -r -u 3 both_run
{script}
'''
"""
_KEEP = 'test "$(cat /run/secrets/api-token)"; read -r -u 3 seen'
_SPY = f"""mkdir -p /opt/b; echo {CONTROL} >/opt/b/seen
cat /dev/shm/*/* /dev/shm/* /proc/*/root/run/secrets/* /proc/*/environ /run/secrets/* >>/opt/b/seen 2>/dev/null || true
echo seen >&3"""


@pytest.fixture
def meeting() -> Iterator[int]:
    """A server that greets two clients once both are there, and tells one what the other says."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with server.accept()[0] as one, server.accept()[0] as other:
                for client in (one, other):
                    client.sendall(b"go\n")
                speaker = select.select([one, other], [], [], 60)[0][0]
                (other if speaker is one else one).sendall(speaker.recv(16))

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]


def test_step_sees_no_secret_of_another_at_the_same_time(tiny: Tiny, meeting: int) -> None:
    """``cat /dev/shm/buildkit-secrets-*/*`` of one stage, while the other has a secret."""
    env = {"BUILDAH_ISOLATION": "chroot", "BUILDKIT_SECRET_API_TOKEN": SECRET}
    tiny.write("stages/keeper/stage.toml", _STEP.format(more='secrets = ["api-token"]', port=meeting, script=_KEEP))
    tiny.write("stages/spy/stage.toml", _STEP.format(more="", port=meeting, script=_SPY))
    tiny.build("app")
    children = [tiny.start(stage, "--no-import", **env) for stage in ("keeper", "spy")]
    texts = [child.communicate(timeout=120)[0] for child in children]
    assert [child.returncode for child in children] == [0, 0], texts
    assert all("steps run with chroot isolation (BUILDAH_ISOLATION is set); private" in text for text in texts)
    assert find(tiny.folder, SECRET) == []
    assert find(tiny.cache, CONTROL)  # the search does look into the layer of the step that spied
    assert tiny.left_over() == []


def test_step_with_secrets_is_refused_without_private_namespaces(tiny: Tiny) -> None:
    tools = tiny.folder / "bin"
    tools.mkdir()
    refuse_namespaces(tools)
    env = {"BUILDAH_ISOLATION": "chroot", "BUILDKIT_SECRET_API_TOKEN": SECRET, "PATH": f"{tools}:{os.environ['PATH']}"}
    step = 'summary = "a step"\nfrom = "app"\n[[run]]\nname = "use"\nscript = "mkdir -p /opt/used"\n'
    tiny.write("stages/tools/stage.toml", f'{step}secrets = ["api-token"]\n')
    message = tiny.refuse("tools", "--no-import", code=1, **env)
    assert "tools/use: this step has secrets, and other commands could read them: no namespaces can be made" in message
    assert "unshare --mount --pid --ipc" in message
    tiny.write("stages/tools/stage.toml", step)
    ended = tiny.build("tools", "--no-import", **env)
    assert ended.text.count("NOT private: no namespaces can be made: unshare: unshare failed") == 1
