"""Kill builds, damage caches, and check the state of cache and storage afterwards."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.e2e.tinyproject import SessionResult, Tiny
from tests.waiting import wait_until

_ACTS = Path(__file__).parent / "acts"
_MARK = "BUILDKIT_TEST_MARK"
_GONE = (FileNotFoundError, ProcessLookupError, PermissionError)


def make_rng(purpose: str = "") -> random.Random:
    """Return a repeatable random generator: its seed is printed, and read from BUILDKIT_TEST_SEED if set."""
    seed = os.environ.get("BUILDKIT_TEST_SEED") or str(random.SystemRandom().randrange(1 << 32))
    print(f"{purpose}: BUILDKIT_TEST_SEED={seed}")
    return random.Random(f"{seed} {purpose}")


# invariants


def unsound(tiny: Tiny) -> list[str]:
    """Return the defects of a cache: files with wrong bytes, a damaged ledger, rows without blobs."""
    with closing(sqlite3.connect(tiny.cache / "ledger.sqlite")) as db:
        return [*misnamed(tiny), *contradictions(tiny, db)]


def unsound_so_far(tiny: Tiny) -> list[str]:
    """Like `unsound`, for a build that was just killed: its ledger may be empty, and is left untouched."""
    wrong = misnamed(tiny)
    with TemporaryDirectory() as folder:
        for path in tiny.cache.glob("ledger.sqlite*"):
            if not path.name.endswith("-shm"):
                shutil.copy(path, folder)
        with closing(sqlite3.connect(Path(folder) / "ledger.sqlite")) as db:
            begun = db.execute("PRAGMA user_version").fetchone() != (0,)
            return wrong + (contradictions(tiny, db) if begun else [])


def misnamed(tiny: Tiny) -> list[str]:
    """Return blobs and downloads whose bytes do not match their names."""
    downloads = [path for path in tiny.cache.glob("files/*/*") if not path.name.startswith(".")]
    named = {**{path: path.name for path in tiny.cache.glob("sha256/*")}, **{p: p.parent.name for p in downloads}}
    return [f"{path} holds other bytes" for path, name in named.items() if _sha256(path) != name]


def contradictions(tiny: Tiny, db: sqlite3.Connection) -> list[str]:
    """Return the defects of a ledger, and its rows without files."""
    wrong = [f"ledger: {row[0]}" for row in db.execute("PRAGMA integrity_check") if row[0] != "ok"]
    for key, blobs in db.execute("SELECT key, blobs FROM layers"):
        for digest, _, size, *_ in json.loads(blobs):
            path = tiny.cache / "sha256" / digest
            if not path.exists() or path.stat().st_size != size:
                wrong.append(f"ledger: layer {key[:12]} has no blob {digest[:12]} of {size} bytes")
    for table, column in (("wheels", "file"), ("downloads", "name")):
        for name, sha256 in db.execute(f"SELECT {column}, sha256 FROM {table}"):
            if not (tiny.cache / "files" / sha256 / name).exists():
                wrong.append(f"ledger: {table} has {name}, the cache has not")
    return wrong


def left_behind(tiny: Tiny) -> list[str]:
    """Return what `Tiny.left_over` does, and leases of containers."""
    return [*tiny.left_over(), *map(str, tiny.cache.glob("boxes/*"))]


def build_again(tiny: Tiny, digest: str, *arguments: str) -> SessionResult:
    """Build the app, which must have this digest; the cache must be sound, with nothing left behind."""
    ended = tiny.build("app", *arguments)
    assert ended.report["digest"] == digest, ended.text
    assert unsound(tiny) == []
    assert left_behind(tiny) == []
    return ended


def forget_images(tiny: Tiny) -> None:
    """Remove all images from storage with another tool."""
    tiny.tool("buildah", "rmi", "--all", "--force")


def wipe(tiny: Tiny) -> None:
    """Remove all containers, images and the cache."""
    tiny.tool("buildah", "rm", "--all")
    forget_images(tiny)
    shutil.rmtree(tiny.cache, ignore_errors=True)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# damage


def copy_wheels(tiny: Tiny) -> None:
    """Have the wheels of the project's folder copied into the cache, because others could change that folder."""
    (tiny.folder / "links").chmod(0o777)


def find_blob(tiny: Tiny, layer: str) -> Path:
    """Return the path of the only blob of a layer's last build; it may be deleted already."""
    with closing(sqlite3.connect(tiny.cache / "ledger.sqlite")) as db:
        (blobs,) = db.execute("SELECT blobs FROM layers WHERE name = ? ORDER BY built DESC", (layer,)).fetchone()
    return tiny.cache / "sha256" / json.loads(blobs)[0][0]


def find_file(tiny: Tiny, name: str) -> Path:
    """Return the path of a download or a compiled wheel."""
    (path,) = tiny.cache.glob(f"files/*/{name}")
    return path


def damage(path: Path, how: str) -> None:
    """Damage a file: ``deleted``, ``truncated`` (by a byte) or ``flipped`` (in one bit); a link becomes such a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    if how == "deleted" or path.is_symlink():
        path.unlink()
    if how != "deleted":
        path.write_bytes(data if how == "flipped" else data[:-1])


# acts


def acting(tiny: Tiny, **orders: object) -> dict[str, str]:
    """Return variables that have a build count its acts, or end at one: see ``acts``."""
    path = f"{_ACTS}:{tiny.env.get('PYTHONPATH', '')}"
    return {"PYTHONPATH": path, **{f"ACTS_{name.upper()}": str(value) for name, value in orders.items()}}


def count_acts(tiny: Tiny, build: Callable[..., object], **orders: object) -> int:
    """Return the number of acts of an undisturbed build."""
    file = tiny.folder / "acts"
    build(**acting(tiny, count=file, **orders))
    return int(file.read_text())


# killing


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """When a build is killed: after seconds, lines of output, or acts, or when one more file matches a pattern."""

    seconds: float | None = None
    lines: int | None = None
    acts: int | None = None
    file: str = ""

    def __str__(self) -> str:
        values = {"seconds": self.seconds, "lines": self.lines, "acts": self.acts, "": self.file}
        return " ".join(f"{value} {unit}" for unit, value in values.items() if value)


class Doomed:
    """A build that is going to be killed."""

    def __init__(self, tiny: Tiny, stage: str) -> None:
        self._tiny = tiny
        self._mark = uuid.uuid4().hex
        self._log = tiny.folder / "killed.log"
        self._argv = tiny.argv(f"build-{stage}")

    def kill(self, moment: Moment, *, whole: bool) -> bool:
        """Start the build and kill it at the moment, ``whole``: with children; False if it ended before."""
        env = {_MARK: self._mark, **(acting(self._tiny, at=moment.acts) if moment.acts else {})}
        before = self._files(moment)
        began = time.monotonic()
        with self._log.open("wb") as out:
            child = subprocess.Popen(
                self._argv, cwd=self._tiny.folder, env=self._tiny.env | env, stdout=out, stderr=out
            )
        while child.poll() is None and not self._is_now(moment, time.monotonic() - began, before):
            time.sleep(0.002)
        child.kill()
        child.wait()
        if whole:
            wait_until(lambda: not [pid for pid in self.living() if kill_process(pid)])
        output = self._log.read_text("utf-8", "replace")
        assert "Traceback" not in output, output
        assert child.returncode in (0, -signal.SIGKILL), output
        print(f"{moment}: {time.monotonic() - began:.2f} s, exit {child.returncode}, {output.splitlines()[-1:]}")
        return child.returncode != 0

    def living(self) -> list[int]:
        """Return the ids of live processes that the build started, directly or not."""
        parents = dict(_processes())
        found = {pid for pid in parents if _has_mark(pid, self._mark)}
        while more := {pid for pid, parent in parents.items() if parent in found} - found:
            found |= more
        return sorted(found)

    def _is_now(self, moment: Moment, seconds: float, before: set[Path]) -> bool:
        if moment.seconds:
            return seconds >= moment.seconds
        if moment.lines:
            return self._log.read_bytes().count(b"\n") >= moment.lines
        return not before.issuperset(self._files(moment))

    def _files(self, moment: Moment) -> set[Path]:
        """Return the files that the moment waits for; a folder may go away while it is looked through."""
        while moment.file:
            with suppress(FileNotFoundError):
                return set(self._tiny.folder.glob(moment.file))
        return set()


def _processes() -> Iterator[tuple[int, int]]:
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent, *_ = path.read_text("utf-8", "replace").rpartition(")")[2].split()
        except _GONE:
            continue
        if state not in "ZX":
            yield int(path.parent.name), int(parent)


def _has_mark(pid: int, mark: str) -> bool:
    try:
        return f"{_MARK}={mark}".encode() in Path(f"/proc/{pid}/environ").read_bytes()
    except _GONE:
        return False


def kill_process(pid: int) -> bool:
    """Kill a process; return whether it existed."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True
