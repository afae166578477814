"""A dashboard as a value: rows of panels, each of them queries in PromQL and a unit. Pure.

Queries are the same for every reader: both know ``$__rate_interval`` and variables in matchers, ``name=~"$container"``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

COLUMNS = 24  # of the grid, in Grafana and in Perses


class Unit(Enum):
    """What a figure is, with the words of Grafana (its value formats) and of Perses (``common.#format``)."""

    BYTES = ("decbytes", "decbytes")
    BYTES_PER_SECOND = ("Bps", "decbytes/sec")
    CELSIUS = ("celsius", "celsius")
    COUNT = ("short", "decimal")
    PER_SECOND = ("cps", "counts/sec")
    REQUESTS_PER_SECOND = ("reqps", "requests/sec")
    SECONDS = ("s", "seconds")
    SHARE = ("percentunit", "percent-decimal")  # 0 to 1
    WATTS = ("watt", "decimal")

    @property
    def grafana(self) -> str:
        """Grafana's id of the unit."""
        return self.value[0]

    @property
    def perses(self) -> str:
        """Perses' name of the unit."""
        return self.value[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class PanelQuery:
    """A query in PromQL; ``legend`` names its lines by labels, ``{{name}}``."""

    text: str
    legend: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """A chart or, if it ``is_number``, the last figure alone. ``width`` and ``height`` are those of the grid."""

    title: str
    about: str
    unit: Unit
    queries: tuple[PanelQuery, ...]
    is_number: bool = False
    width: int = 12
    height: int = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class PanelRow:
    """Panels below a title, laid from left to right."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelChoice:
    """A choice at the top of a dashboard: the values that a label has in series of one metric."""

    name: str
    metric: str
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dashboard:
    """A dashboard; ``name`` is its id and the name of its file."""

    name: str
    title: str
    about: str
    rows: tuple[PanelRow, ...]
    choices: tuple[LabelChoice, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GridPlace:
    """Where a panel lies in the grid of its row."""

    x: int
    y: int
    width: int
    height: int


def place_panels(panels: tuple[Panel, ...]) -> tuple[GridPlace, ...]:
    """Return the places of a row's panels: from left to right, and below where there is no room."""
    places: list[GridPlace] = []
    x = y = lowest = 0
    for panel in panels:
        if x + panel.width > COLUMNS:
            x, y = 0, lowest
        places.append(GridPlace(x=x, y=y, width=panel.width, height=panel.height))
        x += panel.width
        lowest = max(lowest, y + panel.height)
    return tuple(places)
