"""The summary of a profile: functions by their own time, operators by time, memory by file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from buildkit.profiling.trace_files import FileMemory, FunctionTime, OperatorTime

_TOP, _TOP_JSON = 12, 100
_MIB = 1 << 20

Table = tuple[str, tuple[str, ...], list[tuple[str, ...]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileSummary:
    """What the traces say. ``loads`` are the counts of each pass, ``notes`` say what is missing and why."""

    stage: str
    image: str
    folder: str
    loads: dict[str, dict[str, object]]
    functions: tuple[FunctionTime, ...] = ()
    operators: tuple[OperatorTime, ...] = ()
    memory: tuple[FileMemory, ...] = ()
    peak: int = 0  # bytes of the largest process, with native memory
    files: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the summary as ``--json`` prints it: times in seconds, memory in bytes, at most 100 of each list."""
        return {
            "stage": self.stage,
            "image": self.image,
            "folder": self.folder,
            "passes": self.loads,
            "functions": [_rounded(asdict(one)) for one in self.functions[:_TOP_JSON]],
            "operators": [_rounded(asdict(one)) for one in self.operators[:_TOP_JSON]],
            "memory": [asdict(one) for one in self.memory[:_TOP_JSON]],
            "peak": self.peak,
            "files": list(self.files),
            "notes": list(self.notes),
        }

    def tables(self) -> Iterator[Table]:
        """Yield a title, titles of columns and rows for each table that has some."""
        loads: list[tuple[str, ...]] = [
            (name, str(load["requests"]), str(load["failed"]), f"{load['seconds']:g}", _milliseconds(load["median"]))
            for name, load in self.loads.items()
        ]
        yield "requests", ("pass", "requests", "failed", "seconds", "median ms"), loads
        if self.functions:
            everything = sum(one.own for one in self.functions) or 1.0
            yield "functions by their own time", ("own %", "seconds", "total s", "function", "place"), [
                (f"{100 * one.own / everything:.1f}", f"{one.own:.2f}", f"{one.total:.2f}", one.name,
                 f"{one.file}:{one.line}")
                for one in self.functions[:_TOP]
            ]  # fmt: skip
        if self.operators:
            yield (
                "operators by time",
                ("framework", "operator", "where", "calls", "seconds"),
                [
                    (one.framework, one.name, one.where, str(one.calls), f"{one.seconds:.4f}")
                    for one in self.operators[:_TOP]
                ],
            )
        if self.memory:
            yield (
                "memory of Python by file",
                ("MiB", "grown MiB", "blocks", "file"),
                [
                    (f"{one.bytes / _MIB:.2f}", f"{one.grown / _MIB:+.2f}", str(one.blocks), one.file)
                    for one in self.memory[:_TOP]
                ],
            )


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    return {name: round(value, 6) if isinstance(value, float) else value for name, value in values.items()}


def _milliseconds(seconds: object) -> str:
    return f"{1000 * seconds:.1f}" if isinstance(seconds, float) else "-"
