"""A tiny project in its own folder, with its own git repository, cache, home and container storage.

Tests never touch the user's images, cache or settings.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.containers import container_environment, remove_with_mounts
from tests.e2e.forked import run_forked, starts_alike
from tests.waiting import wait_until

_KEPT = (
    "BUILDKIT_LEDGER_KEY",
    "PATH",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "BUILDAH_ISOLATION",
)
_ROOT = Path(__file__).parents[2]
_SESSION = Path(__file__).with_name("session.py")
_NOX = "import runpy, sys; sys.argv = ['nox', *sys.argv[4:]]; runpy.run_module('nox', run_name='__main__')"
SLOW = """import time
from buildkit.build import layer_writer
write_layer = layer_writer.write_layer
layer_writer.write_layer = lambda *args, **named: time.sleep(0.3) or write_layer(*args, **named)
"""  # code for `Tiny.after`: packing layers takes long enough to interfere
_LIMIT = 600  # seconds of a session: on a busy machine, a root with compilers takes more than 300
_GIT = ("git", "-c", "user.name=tester", "-c", "user.email=tester@example.org", "-c", "commit.gpgsign=false")
_STORAGE = """[storage]
driver = "overlay"
graphroot = "{folder}/graph"
runroot = "{folder}/run"
[storage.options]
additionalimagestores = [{stores}]
[storage.options.overlay]
skip_mount_home = "true"
"""
_REGISTRY = """[[registry]]
location = "{registry}"
insecure = true
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionResult:
    """The result of a session: exit code, both output streams, and its JSON report if it wrote one."""

    code: int
    text: str
    report: dict[str, Any] | None = None

    @property
    def errors(self) -> list[str]:
        """The lines with errors."""
        return [line for line in self.text.splitlines() if line.startswith("error: ")]

    def built(self) -> dict[str, str]:
        """Return the names of built layers, with the reasons."""
        assert self.report is not None, self.text
        return {layer["name"]: layer["why"] for layer in self.report["layers"] if layer["source"] == "built"}

    def digests(self) -> dict[str, str]:
        """Return the diff_id of every layer by name (the last one of a registry image)."""
        assert self.report is not None, self.text
        return {layer["name"]: layer["diff_id"] for layer in self.report["layers"]}


class Tiny:
    """A project below ``folder``; ``registry`` needs no TLS, ``links`` is a folder of wheels."""

    def __init__(self, folder: Path, *, registry: str = "", links: Path | None = None) -> None:
        self.folder = folder
        self.project = folder / "project"
        self.cache = folder / "cache"
        self.python = sys.executable
        self.before: tuple[str, ...] = ()  # a prefix that runs commands as another user
        self.by_nox = False  # whether `run` starts Nox, as `argv` does
        containers = folder / "home/.config/containers"
        containers.mkdir(parents=True)
        self.store = folder / "store"
        self.see_store(seen=os.environ.get("BUILDKIT_DELIVERY") == "store")
        if registry:
            (containers / "registries.conf").write_text(_REGISTRY.format(registry=registry))
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        self.env: dict[str, str] = {
            **kept,
            **container_environment(folder),
            "HOME": str(folder / "home"),
            "LANG": "C.UTF-8",
            "TMPDIR": str(folder / "tmp"),
            "BUILDKIT_CACHE": str(self.cache),
            "BUILDKIT_STORE": str(self.store),
            "PIP_CONFIG_FILE": os.devnull,
            "UV_NO_CONFIG": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH")))),
        }
        (folder / "tmp").mkdir()
        (folder / "run").mkdir(mode=0o700)
        if os.geteuid() == 0:
            self.env["CONTAINERS_STORAGE_CONF"] = str(folder / "storage.conf")
        else:
            self.belong_to_user()
        self._first_env = dict(self.env)
        if links is not None:
            self.env |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(links)}

    def see_store(self, *, seen: bool) -> None:
        """Let podman see the image store, so that images are delivered into it."""
        self.sees_store, stores = seen, ""
        if seen:
            self.store.mkdir(mode=0o700, exist_ok=True)
            stores = f'"{self.store}"'
        (self.folder / "storage.conf").write_text(_STORAGE.format(folder=self.folder, stores=stores))

    def adopt(self, template: Path) -> None:
        """Copy a project into this one."""
        shutil.copytree(template, self.project, symlinks=True)

    def belong_to_user(self) -> None:
        """Use an ordinary user's default storage, which is below the home in this folder."""
        self.env["XDG_RUNTIME_DIR"] = str(self.folder / "run")
        self.env.pop("CONTAINERS_STORAGE_CONF", None)
        self.env.pop("BUILDKIT_LEDGER_KEY", None)  # a file of this process's user

    # sessions

    def argv(self, session: str, *arguments: str) -> tuple[str, ...]:
        """Return the command line of a session."""
        noxfile = self.project / "noxfile.py"
        return (*self.before, self.python, "-m", "nox", "-f", str(noxfile), "-s", session, "--", *arguments)

    @contextmanager
    def after(self, code: str) -> Iterator[None]:
        """Run the sessions of the block in an interpreter that executes ``code`` first."""
        before, self.before = self.before, (sys.executable, "-c", code + _NOX)
        self.by_nox = True
        try:
            yield
        finally:
            self.before, self.by_nox = before, False

    def _direct(self, session: str, *arguments: str) -> tuple[str, ...]:
        return (*self.before, self.python, str(_SESSION), str(self.project), session, *arguments)

    def run(self, session: str, *arguments: str, **env: str) -> SessionResult:
        """Run a session to its end, whatever the result; builds write a report."""
        file = self.folder / "report.json"
        file.unlink(missing_ok=True)
        report = ("--json", str(file)) if session.startswith(("build", "push")) and "--as" not in arguments else ()
        code, text = self._run((session, *report, *arguments), self.env | env)
        report_data = json.loads(file.read_text()) if file.exists() else None
        return SessionResult(code=code, text=text, report=report_data)

    def _run(self, words: tuple[str, ...], env: dict[str, str]) -> tuple[int, str]:
        is_plain = not self.before and not self.by_nox and self.python == sys.executable
        if is_plain and starts_alike(env, self._first_env):
            return run_forked((str(self.project), *words), self.folder, env, seconds=_LIMIT)
        argv = (self.argv if self.by_nox else self._direct)(*words)
        done = subprocess.run(argv, cwd=self.folder, env=env, capture_output=True, timeout=_LIMIT, text=True)
        return done.returncode, done.stdout + done.stderr

    def build(self, stage: str, *arguments: str, **env: str) -> SessionResult:
        """Build a stage successfully."""
        ended = self.run(f"build-{stage}", *arguments, **env)
        assert ended.code == 0, ended.text
        return ended

    def refuse(self, stage: str, *arguments: str, code: int, **env: str) -> str:
        """Build a stage, which must fail with one message; return that message with its hint."""
        ended = self.run(f"build-{stage}", *arguments, **env)
        return one_error(ended, code)

    def lock(self, *arguments: str) -> SessionResult:
        """Make the locks successfully."""
        ended = self.run("lock", *arguments)
        assert ended.code == 0, ended.text
        return ended

    def start(self, stage: str, *arguments: str, **env: str) -> subprocess.Popen[str]:
        """Start a build in its own process session, as a terminal would."""
        return subprocess.Popen(
            self.argv(f"build-{stage}", *arguments),
            cwd=self.folder,
            env=self.env | env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def interrupt(self, stage: str, number: signal.Signals, when: Callable[[], bool], **env: str) -> SessionResult:
        """Build, send a signal once ``when`` holds, and wait. SIGINT goes to the process group, as Ctrl-C does."""
        child = self.start(stage, **env)
        wait_until(lambda: when() or child.poll() is not None)
        assert child.poll() is None, child.communicate()[0]
        if number is signal.SIGINT:
            os.killpg(child.pid, number)
        else:
            child.send_signal(number)
        text, _ = child.communicate(timeout=60)
        return SessionResult(code=child.returncode, text=text)

    # the project's files

    def write(self, path: str, text: str) -> None:
        """Write a file."""
        (self.project / path).parent.mkdir(parents=True, exist_ok=True)
        (self.project / path).write_text(text)

    def replace(self, path: str, old: str, new: str) -> None:
        """Replace a part of a file."""
        text = (self.project / path).read_text()
        assert old in text, f"{path} has no {old!r}"
        self.write(path, text.replace(old, new))

    def git(self, *arguments: str) -> None:
        """Run git in the project."""
        subprocess.run((*_GIT, *arguments), cwd=self.project, env=self.env, check=True, capture_output=True)

    # storage and cache

    def tool(self, *argv: str, code: int = 0) -> str:
        """Run buildah, podman or skopeo with this project's storage; return its output."""
        whole = (*self.before, *argv)
        done = subprocess.run(whole, cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=120)
        assert done.returncode == code, f"{argv}: {done.stdout}{done.stderr}"
        return done.stdout

    def run_image(self, stage: str, *argv: str) -> str:
        """Run a container of a stage's image; return its output."""
        return self.tool("podman", "run", "--rm", "--network=none", f"localhost/tiny/{stage}:latest", *argv)

    def inspect(self, stage: str) -> dict[str, Any]:
        """Return podman's description of a stage's image."""
        answer: list[dict[str, Any]] = json.loads(self.tool("podman", "image", "inspect", f"localhost/tiny/{stage}"))
        return answer[0]

    def remove_image(self, stage: str) -> None:
        """Remove a stage's image, by podman or, where podman cannot, from the image store."""
        ref = f"localhost/tiny/{stage}:latest"
        if self.sees_store:
            assert self.run("cache", "rm", ref).code == 0
        else:
            self.tool("podman", "rmi", ref)

    def images(self) -> dict[str, str]:
        """Return the names of all images in storage with their ids; of two with one name, whichever is listed last."""
        lines = self.tool("buildah", "images", "--format", "{{.Name}}:{{.Tag}} {{.ID}}", "--no-trunc").splitlines()
        return dict(line.split() for line in lines)

    def containers(self) -> list[str]:
        """Return the working containers."""
        return self.tool("buildah", "containers", "--quiet").split()

    def rows(self, table: str) -> list[str]:
        """Return the first column of a table of the ledger, sorted."""
        path = self.cache / "ledger.sqlite"
        if not path.exists():
            return []
        with closing(sqlite3.connect(path)) as db:
            return sorted(str(row[0]) for row in db.execute(f"SELECT * FROM {table}"))

    def blobs(self) -> list[str]:
        """Return the layers in the cache."""
        return sorted(path.name for path in self.cache.glob("sha256/*"))

    def snapshot(self) -> dict[str, object]:
        """Return the state of cache and storage."""
        tables = {table: self.rows(table) for table in ("layers", "wheels", "builds")}
        return {**tables, "blobs": self.blobs(), "images": self.images()}

    def left_over(self) -> list[str]:
        """Return what a build should have removed: containers, temporary files, and blobs with wrong digests."""
        found = [f"container {name}" for name in self.containers()]
        found += [str(path) for path in (*self.cache.glob("tmp/*"), *self.cache.glob("files/*/.*"))]
        found += [str(path) for path in (self.folder / "tmp").glob("*") if path.name.startswith("buildkit")]
        for path in self.cache.glob("sha256/*"):
            if hashlib.sha256(path.read_bytes()).hexdigest() != path.name:
                found.append(f"{path} contains other bytes")
        return found

    def remove(self) -> None:
        """Remove everything, including mounts left by containers."""
        if "CONTAINERS_STORAGE_CONF" not in self.env:  # files of subordinate ids are there
            argv = (*self.before, "buildah", "unshare", "rm", "-rf", str(self.folder / "home/.local"))
            subprocess.run(argv, env=self.env, cwd=self.folder, check=False)
        remove_with_mounts(self.folder)


def one_error(ended: SessionResult, code: int) -> str:
    """Return the single message of a session that failed with ``code``."""
    assert ended.code == code, ended.text
    assert "Traceback" not in ended.text, ended.text
    assert len(ended.errors) == 1, ended.text
    return "error: " + ("\n" + ended.text).partition("\nerror: ")[2].partition("nox >")[0]


def read_event(child: subprocess.Popen[str], event: str) -> dict[str, Any]:
    """Return the next event of a kind that a session with --json prints; the suite's time limit ends the wait."""
    assert child.stdout is not None
    while line := child.stdout.readline():
        said: dict[str, Any] = json.loads(line)
        if said["event"] == event:
            return said
    raise AssertionError(f"the session ended with {child.wait()}")
