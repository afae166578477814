"""What the exporter serves: metrics, and a document for the page, as they are at a moment. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from buildkit.monitor.metrics import Labels, MetricFamily, Sample

_FORMAT = 1
_KINDS = ("counter", "gauge", "info")


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorState:
    """All figures at ``time`` (seconds since the epoch).

    ``document`` has what the page shows as JSON, by kind: ``snapshot``, ``services``, ``builds``, ``findings``.
    ``problem`` is why the figures are not what they should be, in words; empty if they are.
    """

    time: float
    families: tuple[MetricFamily, ...] = ()
    document: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""


class LazyDocument(Mapping[str, Any]):
    """A document that is made when it is read: most scrapes need none."""

    def __init__(self, make: Callable[[], dict[str, Any]]) -> None:
        self._make = make
        self._made: dict[str, Any] | None = None

    def __getitem__(self, kind: str) -> Any:  # noqa: ANN401 - a JSON value
        return self._all()[kind]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def _all(self) -> dict[str, Any]:
        if self._made is None:
            self._made = self._make()
        return self._made


def render_state(state: MonitorState) -> bytes:
    """Return the JSON of a state, in one line."""
    families = [[one.name, one.kind, one.help, one.samples] for one in state.families]
    value = {
        "format": _FORMAT,
        "time": state.time,
        "problem": state.problem,
        "families": families,
        "document": dict(state.document),
    }
    return json.dumps(value, separators=(",", ":")).encode()


def parse_state(text: bytes) -> MonitorState:
    """Parse what `render_state` wrote. Raises ValueError for anything else."""
    try:
        value = json.loads(text)
        if value["format"] != _FORMAT:
            raise ValueError(f"it has format {value['format']!r}, not {_FORMAT}: both halves must be of one version")
        return MonitorState(
            time=float(value["time"]),
            problem=str(value["problem"]),
            families=tuple(map(_parse_family, value["families"])),
            document=dict(value["document"]),
        )
    except (KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ValueError(f"it is no state of a monitor: {type(error).__name__}") from None


def _parse_family(value: list[Any]) -> MetricFamily:
    name, kind, text, samples = value
    if kind not in _KINDS:
        raise ValueError(f"{kind!r} is no kind of metric")
    return MetricFamily(name=str(name), kind=kind, help=str(text), samples=tuple(map(_parse_sample, samples)))


def _parse_sample(value: list[Any]) -> Sample:
    pairs, number = value
    if type(number) not in (int, float):
        raise TypeError
    labels: Labels = tuple((str(name), str(text)) for name, text in pairs)
    return labels, number
