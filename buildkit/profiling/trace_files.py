"""Read and write traces: speedscope's format, and Chrome's trace events, which Perfetto opens.

py-spy writes speedscope's (https://www.speedscope.app/file-format-schema.json). ONNX Runtime writes Chrome's as a list
of events, torch as an object with ``traceEvents``: both are Chrome's format.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SCHEMA = "https://www.speedscope.app/file-format-schema.json"
# py-spy tells a thread that waits by its number, which is another one in a container, or by these, without their class
_WAITS = {
    ("selectors.py", "select"),
    ("threading.py", "wait"),
    ("threading.py", "_wait_for_tstate_lock"),
    ("queue.py", "get"),
    ("thread.py", "_worker"),
    ("socket.py", "accept"),
    ("socketserver.py", "serve_forever"),
    ("connection.py", "wait"),
    ("subprocess.py", "wait"),
    ("xoe_profile.py", "_await"),
}
_NOT_A_TRACE = (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError, OverflowError)


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionTime:
    """Seconds that threads were in a function: itself, and with all that it called."""

    name: str
    file: str
    line: int
    own: float
    total: float


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorTime:
    """Calls of an operator, and their seconds without those of operators inside; ``where`` it ran: CPU or GPU."""

    framework: str
    name: str
    where: str
    calls: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FileMemory:
    """Bytes and blocks that Python code of a file holds at the end, and how many more they are than at the start."""

    file: str
    bytes: int
    blocks: int
    grown: int


class TraceError(ValueError):
    """A trace that is not of its format."""


def parse_json_trace(data: bytes, what: str) -> Any:  # noqa: ANN401 - a JSON value
    """Return the JSON of a trace; raises TraceError."""
    try:
        return json.loads(data.decode("utf-8", "replace"))
    except (ValueError, RecursionError) as error:
        raise TraceError(f"{what} is not JSON") from error


def render_samples(document: Any, what: str) -> dict[str, Any]:  # noqa: ANN401 - a JSON value
    """Return a trace of py-spy as speedscope's schema wants it: py-spy writes null for what it does not say."""
    if not isinstance(document, dict):
        raise TraceError(f"{what} is not a profile of speedscope's format")
    return dict(_without_nulls(document))


def _without_nulls(value: Any) -> Any:  # noqa: ANN401 - a JSON value
    if isinstance(value, dict):
        return {key: _without_nulls(one) for key, one in value.items() if one is not None}
    return [_without_nulls(one) for one in value] if isinstance(value, list) and _may_hold_nulls(value) else value


def _may_hold_nulls(values: list[Any]) -> bool:
    return bool(values) and isinstance(values[0], dict)


def sum_functions(document: Mapping[str, Any], what: str) -> list[FunctionTime]:
    """Return the functions of sampled profiles in speedscope's format, by their own time; raises TraceError.

    Samples of threads that wait for work are left out.
    """
    own: dict[tuple[str, str, int], float] = defaultdict(float)
    total: dict[tuple[str, str, int], float] = defaultdict(float)
    try:
        frames = [
            (str(frame["name"]), str(frame.get("file") or ""), int(frame.get("line") or 0))
            for frame in document["shared"]["frames"]
        ]
        for profile in document["profiles"]:
            for stack, weight in zip(profile["samples"], profile["weights"], strict=True):
                if not stack or _waits(frames[stack[-1]]):
                    continue
                own[frames[stack[-1]]] += float(weight)
                for frame in dict.fromkeys(frames[number] for number in stack):
                    total[frame] += float(weight)
    except _NOT_A_TRACE as error:
        raise TraceError(f"{what} is not a profile of speedscope's format") from error
    found = (
        FunctionTime(name=name, file=file, line=line, own=own[name, file, line], total=seconds)
        for (name, file, line), seconds in total.items()
    )
    return sorted(found, key=lambda one: (-one.own, -one.total, one.name, one.file))


def _waits(frame: tuple[str, str, int]) -> bool:
    name, file, _ = frame
    return (file.rpartition("/")[2], name.rpartition(".")[2]) in _WAITS


def sum_onnx(events: Iterable[Any], what: str, skip: float = 0.0) -> list[OperatorTime]:
    """Return the operators of a trace of ONNX Runtime, without those of its first ``skip`` microseconds.

    Raises TraceError.
    """
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    try:
        for event in events:
            if event.get("cat") == "Node" and event["name"].endswith("_kernel_time") and event["ts"] >= skip:
                arguments = event["args"]
                where = "GPU" if "CUDA" in arguments["provider"] or "Tensorrt" in arguments["provider"] else "CPU"
                found[str(arguments["op_name"]), where].append(float(event["dur"]))
            elif event.get("cat") == "Kernel" and event["ts"] >= skip:
                found[str(event["name"]), "GPU kernel"].append(float(event["dur"]))
    except _NOT_A_TRACE as error:
        raise TraceError(f"{what} is not a trace of ONNX Runtime") from error
    return _operators("onnxruntime", found)


def sum_torch(events: Iterable[Any], what: str) -> list[OperatorTime]:
    """Return the operators and GPU kernels of a trace of torch's profiler; raises TraceError."""
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    threads: dict[object, list[tuple[float, float, str]]] = defaultdict(list)
    names: dict[str, str] = {}  # each is held once
    try:
        for event in events:
            kind = event.get("cat")
            if kind == "cpu_op":
                place, name = (str(event.get("pid")), str(event.get("tid"))), str(event["name"])
                threads[place].append((float(event["ts"]), float(event["dur"]), names.setdefault(name, name)))
            elif kind in ("kernel", "gpu_memcpy", "gpu_memset"):
                found[str(event["name"]), "GPU kernel"].append(float(event["dur"]))
    except _NOT_A_TRACE as error:
        raise TraceError(f"{what} is not a trace of torch") from error
    for timed in threads.values():
        for name, own in _own_times(timed):
            found[name, "CPU"].append(own)
    return _operators("torch", found)


def _own_times(events: list[tuple[float, float, str]]) -> Iterator[tuple[str, float]]:
    """Yield each event of a thread with its time outside the events that lie in it."""
    open_: list[list[Any]] = []  # end, name, own time
    for began, took, name in sorted(events, key=lambda one: (one[0], -one[1])):
        while open_ and open_[-1][0] <= began:
            _, ended, own = open_.pop()
            yield ended, max(0.0, own)
        if open_:
            open_[-1][2] -= took
        open_.append([began + took, name, took])
    yield from ((name, max(0.0, own)) for _, name, own in open_)


def _operators(framework: str, found: Mapping[tuple[str, str], Sequence[float]]) -> list[OperatorTime]:
    return [
        OperatorTime(framework=framework, name=name, where=where, calls=len(times), seconds=sum(times) / 1e6)
        for (name, where), times in found.items()
    ]


def merge_operators(operators: Iterable[OperatorTime]) -> list[OperatorTime]:
    """Return one entry for each operator of several traces, the longest first."""
    merged: dict[tuple[str, str, str], OperatorTime] = {}
    for one in operators:
        key = one.framework, one.where, one.name
        before = merged.get(key)
        calls, seconds = (before.calls, before.seconds) if before else (0, 0.0)
        merged[key] = OperatorTime(
            framework=one.framework, where=one.where, name=one.name, calls=calls + one.calls,
            seconds=seconds + one.seconds,
        )  # fmt: skip
    return sorted(merged.values(), key=lambda one: (-one.seconds, one.name))


def sum_memory(document: Any, what: str) -> list[FileMemory]:  # noqa: ANN401 - a JSON value
    """Return the memory of a process by file, from what the container's program wrote; raises TraceError."""
    try:
        return [
            FileMemory(file=str(file), bytes=int(size), blocks=int(blocks), grown=int(grown))
            for file, size, blocks, grown in document["files"]
        ]
    except _NOT_A_TRACE as error:
        raise TraceError(f"{what} does not list memory by file") from error


def render_memory(document: Any, name: str, what: str) -> dict[str, Any]:  # noqa: ANN401 - a JSON value
    """Return the memory of a process as a profile in bytes in speedscope's format; raises TraceError."""
    frames: dict[tuple[str, int], int] = {}
    samples: list[list[int]] = []
    weights: list[int] = []
    try:
        for size, traceback in document["traces"]:
            places = [(str(file), int(line)) for file, line in traceback]
            samples.append([frames.setdefault(place, len(frames)) for place in places])
            weights.append(int(size))
    except _NOT_A_TRACE as error:
        raise TraceError(f"{what} does not list memory by traceback") from error
    shared = [{"name": f"{file.rpartition('/')[2]}:{line}", "file": file, "line": line} for file, line in frames]
    profile = {
        "type": "sampled", "name": name, "unit": "bytes", "startValue": 0, "endValue": sum(weights),
        "samples": samples, "weights": weights,
    }  # fmt: skip
    return {"$schema": SCHEMA, "name": name, "exporter": "xoe-buildkit", "shared": {"frames": shared},
            "profiles": [profile], "activeProfileIndex": 0}  # fmt: skip
