"""Identities of tasks, so that one task can name another that it waits for."""

from __future__ import annotations

from enum import StrEnum

from buildkit.digest import Key
from buildkit.lazy_dataclass import dataclass


class TaskKind(StrEnum):
    """The kinds of tasks."""

    LAYER = "layer"  # build a layer, or pull it from a remote cache
    FETCH = "fetch"
    COMPILE_WHEEL = "compile-wheel"
    DERIVE = "derive"  # a model from another
    SCAN = "scan"
    COMPARE = "compare"  # the paths of wheels
    IMPORT = "import"  # an image into local storage, to start containers from
    PREIMPORT = "preimport"  # the lower layers of the image that is built
    START_COMPILER = "start-compiler"  # of bytecode
    LOOK_UP = "look-up"  # ask a registry what a tag names
    COMPRESS = "compress"  # a layer of the image store, for registries
    UPLOAD = "upload"
    SHARE = "share"
    CHECK_NATIVE = "check-native"  # whether native files can be loaded, while layers go up


@dataclass(frozen=True, slots=True)
class TaskId:
    """A kind, and a name that is unique among tasks of that kind: a key's hexadecimal digits, a path or a reference."""

    kind: TaskKind
    name: str = ""

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}" if self.name else str(self.kind)

    def describe(self) -> dict[str, str]:
        """Return its attributes in a trace; a task that makes a layer has the layer's key, as in the report."""
        key = {"xoe.layer.key": f"sha256:{self.name}"} if self.kind is TaskKind.LAYER else {}
        return {"xoe.task": self.kind, **key}

    @classmethod
    def of_key(cls, kind: TaskKind, key: Key) -> TaskId:
        """Return the identity of the task of this kind for the layer or wheel with ``key``."""
        return cls(kind, key.hex)
