"""The file that `audit-running` writes, as metrics."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from buildkit.monitor.metrics import MetricFamily, gauge

_MOST = 16 << 20  # bytes
_SERIES = 2000


def _ignore(_value: dict[str, Any]) -> None:
    pass


class FindingsFile:
    """The findings in a file, read again when it has changed; ``publish`` gets its content."""

    def __init__(self, path: Path, publish: Callable[[dict[str, Any]], None] = _ignore) -> None:
        self._path, self._publish = path, publish
        self._seen: tuple[int, int, int] | None = None
        self._families: tuple[MetricFamily, ...] = ()

    def ask(self) -> tuple[MetricFamily, ...]:
        """Return the metrics of the findings. Raises OSError and ValueError; the next call tries again."""
        found = self._path.stat()
        seen = (found.st_ino, found.st_mtime_ns, found.st_size)
        if seen != self._seen:
            if found.st_size > _MOST:
                raise ValueError(f"{self._path} has {found.st_size} bytes")
            try:
                value = json.loads(self._path.read_bytes())
                self._families = tuple(finding_families(value))
            except (LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
                raise ValueError(f"{self._path} is no file of findings") from error
            self._publish(value)
            self._seen = seen
        return self._families


def finding_families(value: dict[str, Any]) -> Iterator[MetricFamily]:
    """Yield the metrics of what `audit-running` found; what is accepted is not counted."""
    counts = Counter((str(one["rule"]), str(one["severity"]), str(one["container"])) for one in value["findings"])
    samples = [
        ((("rule", rule), ("severity", severity), ("container", container)), count)
        for (rule, severity, container), count in sorted(counts.items())[:_SERIES]
    ]
    yield gauge("xoe_findings", "Findings in running containers.", *samples)
    left_out = max(0, len(counts) - _SERIES)
    yield gauge("xoe_findings_left_out", "Kinds of findings beyond the most that are shown.", ((), left_out))
    complete = int(value["complete"] is True)
    yield gauge("xoe_findings_complete", "1 if everything could be looked at.", ((), complete))
    yield gauge("xoe_findings_timestamp_seconds", "When it was looked at, since 1970.", ((), float(value["time"])))
