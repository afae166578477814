"""An image as checks see it: its config, every layer's members, and the files that a container would find."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from buildkit.audit.layer_view import LayerView, TarEntry
from buildkit.audit.merge import merge_layers
from buildkit.native.facts import NativeView
from buildkit.native.facts import merge_layers as merge_native

_LINKS = 40  # Linux's limit
SETUID, SETGID, STICKY = 0o4000, 0o2000, 0o1000


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryLine:
    """One step of the build, by the image's history."""

    created_by: str
    comment: str = ""


@dataclass(frozen=True, kw_only=True)
class ImageConfig:
    """The config of an image; ``healthcheck`` is its command (``CMD …``), None if there is none."""

    user: str = ""
    workdir: str = ""
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    ports: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    healthcheck: tuple[str, ...] | None = None
    history: tuple[HistoryLine, ...] = ()
    arch: str = ""

    @cached_property
    def variables(self) -> Mapping[str, str]:
        """The environment; the last value of a name counts."""
        return dict(self.env)

    @property
    def argv(self) -> tuple[str, ...]:
        """The command that is started."""
        return self.entrypoint + self.cmd


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A line of /etc/passwd."""

    name: str
    password: str
    uid: int
    gid: int
    home: str
    shell: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The container's user: ids, and the groups that /etc/group gives it."""

    name: str
    uid: int | None
    gids: frozenset[int]
    home: str = ""

    @property
    def description(self) -> str:
        """For messages: ``mluser (uid 1000)``."""
        return f"{self.name} (uid {self.uid})" if self.name and self.name != str(self.uid) else f"uid {self.uid}"

    def may_write(self, entry: TarEntry) -> bool:
        """Return whether the permission bits allow writing (uid 0 always may; links have no permissions)."""
        if entry.is_link:
            return False
        if self.uid == 0:
            return True
        if entry.uid == self.uid:
            return bool(entry.mode & 0o200)
        if entry.gid in self.gids:
            return bool(entry.mode & 0o020)
        return bool(entry.mode & 0o002)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageOrigin:
    """Facts about an image that its bytes do not contain.

    ``pinned`` is how its base is pinned, empty if unknown; ``stage`` names a stage of the project; ``peers`` are the
    unpacked sizes, in bytes, of images that it should not exceed; ``tag`` is the name that was requested of a registry
    or an archive. ``driver`` is the range of drivers (``>=570``) for which the stage asks, empty if it names none.
    """

    pinned: str = ""
    stage: str = ""
    peers: tuple[tuple[str, int], ...] = ()
    tag: str = ""
    asks_for_gpu: bool = False
    driver: str = ""


@dataclass(frozen=True, kw_only=True)
class ImageView:
    """Everything that the checks receive; ``name`` is the image's name."""

    name: str
    config: ImageConfig
    layers: tuple[LayerView, ...]
    origin: ImageOrigin = ImageOrigin()

    @cached_property
    def files(self) -> Mapping[str, TarEntry]:
        """The final view: path to the member that a container finds there, whiteouts applied."""
        return merge_layers(self.layers)

    @cached_property
    def folders(self) -> Mapping[str, tuple[str, ...]]:
        """Names in each folder of the final view, including folders that no layer lists."""
        found: dict[str, dict[str, None]] = {"": {}}
        for path in self.files:
            parts = path.split("/")
            for depth in range(len(parts) - 1, -1, -1):
                parent = "/".join(parts[:depth])
                known = parent in found
                found.setdefault(parent, {})[parts[depth]] = None
                if known:
                    break
        return {folder: tuple(names) for folder, names in found.items()}

    @cached_property
    def native(self) -> NativeView:
        """What native files need, of all layers as a container sees them."""
        return merge_native((layer.digest, layer.native) for layer in self.layers)

    def resolve(self, path: str) -> str | None:
        """Return where a path of the container leads, links followed within the image; None for a loop.

        The last part need not exist.
        """
        todo = [part for part in path.split("/") if part not in ("", ".")][::-1]
        done: list[str] = []
        links = 0
        while todo:
            part = todo.pop()
            if part == "..":
                done = done[:-1]
                continue
            entry = self.files.get("/".join((*done, part)))
            if entry is None or not entry.is_link:
                done.append(part)
                continue
            links += 1
            if links > _LINKS:
                return None
            done = [] if entry.link.startswith("/") else done
            todo += [part for part in entry.link.split("/") if part not in ("", ".")][::-1]
        return "/".join(done)

    def find(self, path: str) -> TarEntry | None:
        """Return the file or folder that a path leads to, symbolic and hard links followed; None if there is none."""
        place = self.resolve(path)
        entry = self.files.get(place) if place is not None else None
        if entry is not None and entry.kind == "hard link":
            target = self.files.get(clean_path(entry.link))
            return target if target is not None and target.kind != "hard link" else entry
        return entry

    def below(self, folder: str) -> Iterator[TarEntry]:
        """Yield everything below a folder of the final view (a resolved path without leading or trailing slash)."""
        todo = [folder]
        while todo:
            parent = todo.pop()
            for name in self.folders.get(parent, ()):
                path = f"{parent}/{name}" if parent else name
                if (entry := self.files.get(path)) is not None:
                    yield entry
                if path in self.folders:
                    todo.append(path)

    @cached_property
    def accounts(self) -> tuple[Account, ...]:
        """The readable lines of /etc/passwd."""
        return tuple(_accounts(self.text("etc/passwd")))

    def text(self, path: str) -> str:
        """Return the text of a small file that was kept; empty if there is none."""
        entry = self.find(path)
        return (entry.content or b"").decode("utf-8", "replace") if entry is not None else ""

    @cached_property
    def identity(self) -> Identity:
        """The config's ``User``, by the image's accounts; uid None for an unknown name."""
        name, _, group = self.config.user.partition(":")
        account = next((known for known in self.accounts if name in (known.name, str(known.uid))), None)
        uid = int(name) if _ID.fullmatch(name) else account.uid if account else None if name else 0
        groups = _groups(self.text("etc/group"))
        gids = {gid for gid, _, members in groups if account and account.name in members}
        own = account.gid if account else 0
        if group:
            own = int(group) if _ID.fullmatch(group) else next((g for g, n, _ in groups if n == group), own)
        home = account.home if account else "/"
        return Identity(name=name or "root", uid=uid, gids=frozenset(gids | {own}), home=home)


_ID = re.compile(r"[0-9]{1,10}")


def _accounts(text: str) -> Iterator[Account]:
    for line in text.splitlines():
        parts = line.split(":")
        if len(parts) >= 7 and _ID.fullmatch(parts[2]) and _ID.fullmatch(parts[3]):
            name, password, uid, gid, _, home, shell = parts[:7]
            yield Account(name=name, password=password, uid=int(uid), gid=int(gid), home=home, shell=shell)


def _groups(text: str) -> list[tuple[int, str, tuple[str, ...]]]:
    rows = (line.split(":") for line in text.splitlines())
    return [(int(r[2]), r[0], tuple(r[3].split(","))) for r in rows if len(r) >= 4 and _ID.fullmatch(r[2])]


def clean_path(path: str) -> str:
    """Return a path as entries have it: no leading or trailing slash, no ``.`` parts."""
    return "/".join(part for part in path.split("/") if part not in ("", "."))


def format_untrusted(text: str, most: int = 200) -> str:
    """Format foreign text on one line: unprintable characters, and those that reverse text, are escaped."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text[: most + 1])
    return shown if len(text) <= most else f"{shown[:most]}…"
