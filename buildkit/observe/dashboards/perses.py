"""Dashboards for Perses: its resource ``Dashboard``, with the plugins for Prometheus, time series and stat. Pure.

Source: the CUE definitions of github.com/perses/spec and those that each plugin carries in its folder ``schemas``.
"""

from __future__ import annotations

from typing import Any

from buildkit.observe.dashboards.dashboard import Dashboard, LabelChoice, Panel, PanelRow, place_panels

PROJECT = "xoe"  # Perses keeps dashboards in projects


def render_perses(dashboard: Dashboard, project: str = PROJECT) -> dict[str, Any]:
    """Return the dashboard as ``percli apply`` and Perses' API take it; queries go to the default data source."""
    rows = tuple(enumerate(dashboard.rows))
    return {
        "kind": "Dashboard",
        "metadata": {"name": dashboard.name, "project": project},
        "spec": {
            "display": {"name": dashboard.title, "description": dashboard.about},
            "duration": "1h",
            "refreshInterval": "30s",
            "variables": [_choice(choice) for choice in dashboard.choices],
            "panels": {
                f"{number}_{index}": _panel(panel) for number, row in rows for index, panel in enumerate(row.panels)
            },
            "layouts": [_layout(number, row) for number, row in rows],
        },
    }


def _choice(choice: LabelChoice) -> dict[str, Any]:
    values = {"labelName": choice.label, "matchers": [choice.metric]}
    return {
        "kind": "ListVariable",
        "spec": {
            "name": choice.name,
            "display": {"name": choice.name},
            "allowAllValue": True,
            "allowMultiple": True,
            "customAllValue": ".*",
            "defaultValue": ["$__all"],
            "sort": "alphabetical-asc",
            "plugin": {"kind": "PrometheusLabelValuesVariable", "spec": values},
        },
    }


def _panel(panel: Panel) -> dict[str, Any]:
    form = {"unit": panel.unit.perses}
    if panel.is_number:
        plugin: dict[str, Any] = {"kind": "StatChart", "spec": {"calculation": "last-number", "format": form}}
    else:
        spec = {
            "legend": {"mode": "list", "position": "bottom"},
            "yAxis": {"format": form, "min": 0},
            "visual": {"areaOpacity": 0.1, "lineWidth": 1},
        }
        plugin = {"kind": "TimeSeriesChart", "spec": spec}
    return {
        "kind": "Panel",
        "spec": {
            "display": {"name": panel.title, "description": panel.about},
            "plugin": plugin,
            "queries": [_query(query.text, query.legend) for query in panel.queries],
        },
    }


def _query(text: str, legend: str) -> dict[str, Any]:
    spec = {"query": text} | ({"seriesNameFormat": legend} if legend else {})
    return {"kind": "TimeSeriesQuery", "spec": {"plugin": {"kind": "PrometheusTimeSeriesQuery", "spec": spec}}}


def _layout(number: int, row: PanelRow) -> dict[str, Any]:
    items = [
        {
            "x": place.x,
            "y": place.y,
            "width": place.width,
            "height": place.height,
            "content": {"$ref": f"#/spec/panels/{number}_{index}"},
        }
        for index, place in enumerate(place_panels(row.panels))
    ]
    return {"kind": "Grid", "spec": {"display": {"title": row.title, "collapse": {"open": True}}, "items": items}}
