"""The summary of a profile as tables: figures with their units, the longest first, and no table without rows."""

from __future__ import annotations

from buildkit.profiling.summary import ProfileSummary
from buildkit.profiling.trace_files import FileMemory, FunctionTime, OperatorTime

LOADS: dict[str, dict[str, object]] = {
    "cpu": {"requests": 120, "failed": 3, "seconds": 10.0, "median": 0.0123},
    "memory": {"requests": 0, "failed": 0, "seconds": 2.5, "median": None},
}


def summary(**more: object) -> ProfileSummary:
    return ProfileSummary(stage="s", image="i", folder="f", loads=LOADS, **more)  # type: ignore[arg-type]


def test_loads_are_always_there_and_an_unknown_median_is_a_dash() -> None:
    ((title, columns, rows),) = summary().tables()
    assert (title, columns) == ("requests", ("pass", "requests", "failed", "seconds", "median ms"))
    assert rows == [("cpu", "120", "3", "10", "12.3"), ("memory", "0", "0", "2.5", "-")]


def test_functions_have_their_share_of_all_though_twelve_are_shown() -> None:
    functions = tuple(
        FunctionTime(name=f"f{number}", file="app.py", line=number, own=0.5, total=2.0) for number in range(20)
    )
    _, (title, columns, rows) = summary(functions=functions).tables()
    assert (title, columns) == ("functions by their own time", ("own %", "seconds", "total s", "function", "place"))
    assert len(rows) == 12
    assert rows[1] == ("5.0", "0.50", "2.00", "f1", "app.py:1")


def test_functions_that_took_no_time_are_no_division_by_zero() -> None:
    idle = FunctionTime(name="f", file="a.py", line=1, own=0.0, total=0.0)
    _, (_, _, rows) = summary(functions=(idle,)).tables()
    assert rows == [("0.0", "0.00", "0.00", "f", "a.py:1")]


def test_operators_and_memory_are_tables_of_their_own() -> None:
    operators = tuple(
        OperatorTime(framework="onnxruntime", name=f"Conv{number}", where="CPU", calls=7, seconds=0.25)
        for number in range(13)
    )
    memory = tuple(FileMemory(file=f"m{number}.py", bytes=3 << 20, grown=-(1 << 19), blocks=9) for number in range(13))
    _, first, second = summary(operators=operators, memory=memory).tables()
    assert first[:2] == ("operators by time", ("framework", "operator", "where", "calls", "seconds"))
    assert (len(first[2]), first[2][0]) == (12, ("onnxruntime", "Conv0", "CPU", "7", "0.2500"))
    assert second[:2] == ("memory of Python by file", ("MiB", "grown MiB", "blocks", "file"))
    assert (len(second[2]), second[2][0]) == (12, ("3.00", "-0.50", "9", "m0.py"))
