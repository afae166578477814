"""Secrets of steps and of private indexes are used, and then searched for in everything that remains."""

from __future__ import annotations

import base64
import json
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from buildkit.layers.tar.decompress import inflate
from buildkit.layers.tar.member import Compression
from tests.e2e.machines import succeeded, trust
from tests.e2e.tinyproject import Tiny, one_error
from tests.registry import serve_registry
from tests.waiting import wait_until

pytestmark = pytest.mark.tools

SECRET = "f6yJ2nQ9-planted-kW84"
FILED = "8sXv0Lq3-in-a-file-Zt61"
CONTROL = "harmless-words-for-all"  # found wherever the search looks
STAGE = """summary = "a step with secrets"
from = "app"

[[run]]
name = "use"
secrets = ["api-token", "filed"]
script = '''
test "$(cat /run/secrets/api-token)" = {spelled}
test "$(cat /run/secrets/filed)" = {filed}
test -z "${{BUILDKIT_SECRET_API_TOKEN:-}}${{API_TOKEN:-}}"
mkdir -p /opt/used
{more}
'''
"""


def write_stage(tiny: Tiny, more: str) -> None:
    """Split the expected secrets in two, so that the stage file does not contain them."""
    spelled, filed = (f"{word[:9]}''{word[9:]}" for word in (SECRET, FILED))
    tiny.write("stages/tools/stage.toml", STAGE.format(spelled=spelled, filed=filed, more=more))


@pytest.fixture
def planted(tiny: Tiny) -> dict[str, str]:
    """A project with a secret in the environment and one in the user's configuration; returns the environment."""
    place = tiny.folder / "planted"
    place.write_text(f"{FILED}\n")
    config = tiny.folder / "home/.config/xoe-buildkit/secrets.toml"
    config.parent.mkdir()
    config.write_text(f'["{tiny.project}"]\nfiled = "file:{place}"\n')
    return {"BUILDKIT_SECRET_API_TOKEN": SECRET}


def forms(secret: str) -> list[bytes]:
    """The secret, and what base64 makes of its middle, wherever it begins."""
    data = secret.encode()
    return [data, *(base64.b64encode(data[at:])[: (len(data) - at) // 3 * 4] for at in range(3))]


def find(where: Path, *secrets: str) -> list[str]:
    """Files below a folder that hold a secret, layers unpacked."""
    found = []
    wanted = [form for secret in secrets for form in forms(secret)]
    for path in where.rglob("*"):
        if not path.is_file() or path.is_symlink():
            continue
        data = path.read_bytes()
        kind = (
            Compression.ZSTD
            if data[:4] == b"\x28\xb5\x2f\xfd"
            else Compression.GZIP
            if data[:2] == b"\x1f\x8b"
            else None
        )
        if kind is not None:
            data += b"".join(inflate(path, kind))
        found += [str(path)] if any(form in data for form in wanted) else []
    return found


def ledger(tiny: Tiny) -> str:
    with closing(sqlite3.connect(tiny.cache / "ledger.sqlite")) as db:
        return "\n".join(db.iterdump())


def test_secret_reaches_only_its_step(tiny: Tiny, planted: dict[str, str], tmp_path: Path, registry: str) -> None:
    write_stage(tiny, f"echo {CONTROL} > /opt/used/yes")
    with serve_registry(tmp_path) as host:
        trust(tiny, host, registry)
        ended = succeeded(tiny.run("push-tools", f"{host}/x:one", "--attest", "--cache-write", f"{host}/x", **planted))
    assert ended.built()["tools/use"] == "first build"
    tiny.build("tools")  # and no later build needs the secret
    assert tiny.run_image("tools", "/bin/sh", "-c", "cat /opt/used/yes; test -e /run/secrets || echo gone") == (
        f"{CONTROL}\ngone\n"
    )
    texts = [ended.text, json.dumps(ended.report), ledger(tiny), tiny.run("export-containerfile", "tools").text]
    assert [text for text in texts if SECRET in text or FILED in text] == []
    assert "--mount=type=secret,id=api-token,required=true" in (tiny.project / "Podmanfile").read_text()
    assert find(tiny.folder, SECRET, FILED) == [str(tiny.folder / "planted")]
    assert find(tmp_path, SECRET, FILED) == []
    for place in (tiny.cache, tiny.folder / "graph", tmp_path):  # the search does look into layers and documents
        assert find(place, CONTROL)
    wait_until(lambda: not list(Path("/dev/shm").glob(f"buildkit-secrets-{os.geteuid()}-*")))  # others build, too


def test_secret_does_not_change_the_layer(tiny: Tiny, planted: dict[str, str]) -> None:
    env = {"BUILDAH_ISOLATION": "chroot"}  # which has other ways to mount
    step = 'summary = "a step"\nfrom = "app"\n[[run]]\nname = "use"\nscript = "mkdir -p /opt/used"\n'
    tiny.write("stages/tools/stage.toml", f'{step}secrets = ["api-token", "filed"]\n')
    given = ("--secret=id=api-token,env=MINE", f"--secret=id=filed,src={tiny.folder}/planted")  # over the others
    with_secrets = tiny.build("tools", "--no-import", *given, **planted, **env, MINE=SECRET).digests()
    tiny.write("stages/tools/stage.toml", step)
    without = tiny.build("tools", "--no-import", **env)
    assert list(without.built()) == ["tools/use"]
    assert without.digests() == with_secrets


def test_secret_is_masked_in_failures_and_refused_in_layers(tiny: Tiny, planted: dict[str, str]) -> None:
    write_stage(tiny, "cat /run/secrets/filed; echo https://me:$(cat /run/secrets/api-token)@host >&2; exit 3")
    failing = tiny.run("build-tools", **planted)
    assert failing.code == 1
    assert "https://me:[secret]@host" in failing.text
    write_stage(tiny, "cat /run/secrets/api-token > /opt/used/kept")
    kept = tiny.run("build-tools", **planted)
    assert "tools/use: this step wrote one of its secrets" in one_error(kept, 1)
    for text in (failing.text, kept.text, ledger(tiny)):
        assert SECRET not in text
        assert FILED not in text
    assert find(tiny.folder, SECRET, FILED) == [str(tiny.folder / "planted")]
    assert tiny.left_over() == []


@contextmanager
def private_index(links: Path, password: str) -> Iterator[str]:
    """An index of the wheels in a folder, protected by a password; gives its host and port."""
    login = "Basic " + base64.b64encode(f"tester:{password}".encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.headers.get("Authorization") != login:
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="tests"')
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            name = self.path.strip("/").rpartition("/")[2]
            file = links / name
            body = file.read_bytes() if file.is_file() else self._page(name)
            self.send_response(200)
            self.send_header("Content-Type", "application/octet-stream" if file.is_file() else "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_HEAD(self) -> None:
            self.do_GET()

        def _page(self, name: str) -> bytes:
            files = [path.name for path in links.glob(f"{name}-*.whl")]
            return "".join(f'<a href="/files/{file}">{file}</a>' for file in files).encode()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name above
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_credentials_of_a_private_index_are_not_stored(tiny: Tiny, links: Path) -> None:
    netrc = tiny.folder / "home/.netrc"
    with private_index(links, SECRET) as host:
        url = f"http://tester:{SECRET}@{host}/simple/"
        env = {"PIP_NO_INDEX": "", "PIP_FIND_LINKS": "", "PIP_INDEX_URL": url}
        locked = succeeded(tiny.run("lock", "--upgrade", **env))
        netrc.write_text(f"machine 127.0.0.1 login tester password {SECRET}\n")
        netrc.chmod(0o600)
        built = succeeded(tiny.run("build-app", "--no-import", **{**env, "PIP_INDEX_URL": f"http://{host}/simple/"}))
        assert [name for name in built.built() if name.startswith("deps/")]
        tiny.write("requirements/app.in", "alpha\nnone-such\n")
        failing = tiny.run("lock", **env)
        assert failing.code == 1
        netrc.unlink()
        refused = tiny.run("lock", **{**env, "PIP_INDEX_URL": url.replace(SECRET, f"{SECRET}x")})
        assert refused.code == 1
        tiny.git("checkout", "--quiet", "requirements")
    down = tiny.run("build-app", "--no-import", **env, BUILDKIT_CACHE=str(tiny.folder / "fresh"))
    assert down.code == 1
    texts = [locked.text, built.text, json.dumps(built.report), failing.text, refused.text, down.text, ledger(tiny)]
    assert [text for text in texts if SECRET in text] == []
    assert find(tiny.folder, SECRET) == []
