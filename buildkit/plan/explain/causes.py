"""Why a layer is built: one class for every cause there is, each of which says itself in the user's words.

``str`` of a cause is one line without a hash; ``where`` is what the user would open: a file, ``file:line``, or
``file: key``, and empty where there is nothing to open.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

_CAPITAL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_MOST = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """What all causes have in common."""

    where: str = ""

    def __str__(self) -> str:
        return one_line(self._words())

    def _words(self) -> str:
        raise NotImplementedError

    def as_json(self) -> dict[str, Any]:
        """``{"cause": "pin-changed", "text", "where"}`` and the fields of the class."""
        kind = _CAPITAL.sub("-", type(self).__name__).lower()
        own = {part.name: getattr(self, part.name) for part in fields(self)}
        values = {name: value.as_json() if isinstance(value, Cause) else value for name, value in own.items()}
        return {"cause": kind, "text": str(self), **values}


def say_cause(cause: Cause) -> str:
    """The line of one cause, with where it is: ``numpy 2.4.0 → 2.5.1 (requirements/ml.txt:46)``."""
    where = one_line(cause.where)
    return f"{cause} ({where})" if where and where not in str(cause) else str(cause)


def say_causes(causes: Sequence[Cause]) -> str:
    """One short line for a report: a single cause with where it is, of several the first three and how many more."""
    lines = list(dict.fromkeys(map(str, causes)))
    if len(lines) == 1:
        return say_cause(causes[0])
    more = f" and {len(lines) - _MOST} more" if len(lines) > _MOST else ""
    return ", ".join(lines[:_MOST]) + more


def one_line(text: str) -> str:
    """Foreign words without line breaks and control characters: names of files may hold any."""
    return "".join(letter if letter.isprintable() else "�" for letter in text)


# layers


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstBuild(Cause):
    """The stage was never built, nor any layer of it for another."""

    def _words(self) -> str:
        return "first build"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewLayer(Cause):
    """The image had no such layer."""

    def _words(self) -> str:
        return "new layer"


@dataclass(frozen=True, slots=True, kw_only=True)
class KindChanged(Cause):
    """Another kind of layer had the name."""

    before: str
    after: str

    def _words(self) -> str:
        return f"a layer of another kind: {self.before} → {self.after}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FormatChanged(Cause):
    """This buildkit packs other bytes from the same recipe."""

    before: int
    after: int

    def _words(self) -> str:
        return f"packer format {self.before} → {self.after}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evicted(Cause):
    """The layer was made before, and gc took it away (``at``: seconds since the epoch)."""

    at: float
    why: str = ""

    def _words(self) -> str:
        return f"evicted by gc on {_day(self.at)}" + (f": {self.why}" if self.why else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Damaged(Cause):
    """The layer was made before, and its blob did not hold the bytes that it should."""

    at: float
    why: str = ""

    def _words(self) -> str:
        return f"its blob was damaged, and removed on {_day(self.at)}" + (f": {self.why}" if self.why else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class RowDamaged(Cause):
    """The layer was made before, and what the ledger says of it is not what was written; ``at`` is 0 until removed."""

    at: float = 0.0
    why: str = ""

    def _words(self) -> str:
        removed = f", and removed on {_day(self.at)}" if self.at else ""
        return f"its row in the ledger was damaged{removed}" + (f": {self.why}" if self.why else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class OnlyShared(Cause):
    """Another machine made the layer, and its bytes were never needed here (``repository``: where they are)."""

    repository: str

    def _words(self) -> str:
        return f"it is in the shared cache {self.repository} only, which is not asked"


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobGone(Cause):
    """The layer was made before, and somebody removed its blob."""

    def _words(self) -> str:
        return "its blob is gone from the cache"


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten(Cause):
    """Nothing changed, but the cache knows nothing of the layer any more."""

    def _words(self) -> str:
        return "not in the cache any more"


# definitions and files


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingChanged(Cause):
    """A key of a stage file or of the settings.

    ``before`` and ``after`` are empty where they are long; ``of`` names the step or user whose key it is.
    """

    key: str
    before: str = ""
    after: str = ""
    of: str = ""

    def _words(self) -> str:
        key = f"{self.key} of {self.of}" if self.of else self.key
        return f"{key} {self.before} → {self.after}" if self.before and self.after else f"{key} changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemsChanged(Cause):
    """A list or table of a stage file has other items, or the same ones in another order."""

    key: str
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    of: str = ""

    def _words(self) -> str:
        key = f"{self.key} of {self.of}" if self.of else self.key
        if not self.added and not self.removed:
            return f"{key} in another order"
        if len(self.added) + len(self.removed) > _MOST:
            return f"{key}: {len(self.added)} added, {len(self.removed)} removed"
        return f"{key}: " + ", ".join([f"{x} added" for x in self.added] + [f"{x} removed" for x in self.removed])


@dataclass(frozen=True, slots=True, kw_only=True)
class FileChanged(Cause):
    """A file of the repository has other content; ``path`` is relative to the project."""

    path: str

    def _words(self) -> str:
        return f"{self.path} changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileAdded(Cause):
    """A file of the repository is new."""

    path: str

    def _words(self) -> str:
        return f"{self.path} added"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRemoved(Cause):
    """A file of the repository is gone."""

    path: str

    def _words(self) -> str:
        return f"{self.path} removed"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeChanged(Cause):
    """A file of the repository became executable or no longer is, or became a link or no longer is."""

    path: str
    before: str
    after: str

    def _words(self) -> str:
        return f"{self.path}: {self.before} → {self.after}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkChanged(Cause):
    """A symbolic link of the repository leads elsewhere."""

    path: str
    before: str
    after: str

    def _words(self) -> str:
        return f"{self.path}: leads to {self.after}, not {self.before}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFileChanged(Cause):
    """A file of a model has other content; ``path`` is below the model's folder."""

    model: str
    path: str

    def _words(self) -> str:
        return f"{self.path} of model {self.model} changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFileAdded(Cause):
    """A file of a model is new, or came from a layer of its own."""

    model: str
    path: str

    def _words(self) -> str:
        return f"{self.path} of model {self.model} added"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFileRemoved(Cause):
    """A file of a model is gone, or has a layer of its own now."""

    model: str
    path: str

    def _words(self) -> str:
        return f"{self.path} of model {self.model} removed"


@dataclass(frozen=True, slots=True, kw_only=True)
class MountAdded(Cause):
    """A step sees files of the repository that it did not see."""

    target: str
    source: str

    def _words(self) -> str:
        return f"mount {self.source} at {self.target} added"


@dataclass(frozen=True, slots=True, kw_only=True)
class MountRemoved(Cause):
    """A step no longer sees files of the repository that it saw."""

    target: str

    def _words(self) -> str:
        return f"mount at {self.target} removed"


@dataclass(frozen=True, slots=True, kw_only=True)
class MountsReordered(Cause):
    """A step sees the same files, mounted in another order."""

    def _words(self) -> str:
        return "mounts in another order"


def _day(at: float) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(at))  # the user's day, as elsewhere
