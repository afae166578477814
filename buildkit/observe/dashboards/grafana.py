"""Dashboards for Grafana, from version 9 on: its dashboard model, schema version 39. Pure.

Source: *Dashboard JSON model* of grafana.com/docs/grafana/latest/dashboards, and Grafana's schema library.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from buildkit.observe.dashboards.dashboard import COLUMNS, Dashboard, GridPlace, LabelChoice, Panel, place_panels

_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_ALWAYS = 2  # a choice's values are asked for whenever the time range changes


def render_grafana(dashboard: Dashboard) -> dict[str, Any]:
    """Return the dashboard as Grafana imports it; the data source is chosen at its top."""
    return {
        "uid": dashboard.name,
        "title": dashboard.title,
        "description": dashboard.about,
        "tags": ["xoe"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "annotations": {"list": []},
        "templating": {"list": [_source_choice(), *map(_choice, dashboard.choices)]},
        "panels": [panel | {"id": number} for number, panel in enumerate(_panels(dashboard), 1)],
    }


def _source_choice() -> dict[str, Any]:
    return {"type": "datasource", "name": "datasource", "label": "data source", "query": "prometheus", "refresh": 1}


def _choice(choice: LabelChoice) -> dict[str, Any]:
    return {
        "type": "query",
        "name": choice.name,
        "label": choice.name,
        "datasource": _SOURCE,
        "query": f"label_values({choice.metric}, {choice.label})",
        "refresh": _ALWAYS,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def _panels(dashboard: Dashboard) -> Iterator[dict[str, Any]]:
    top = 0
    for row in dashboard.rows:
        grid = {"x": 0, "y": top, "w": COLUMNS, "h": 1}
        yield {"type": "row", "title": row.title, "collapsed": False, "gridPos": grid, "panels": []}
        places = place_panels(row.panels)
        for panel, place in zip(row.panels, places, strict=True):
            yield _panel(panel, place, top + 1)
        top += 1 + max(place.y + place.height for place in places)


def _panel(panel: Panel, place: GridPlace, top: int) -> dict[str, Any]:
    kind, options, custom = _number() if panel.is_number else _lines()
    return {
        "type": kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": _SOURCE,
        "gridPos": {"x": place.x, "y": top + place.y, "w": place.width, "h": place.height},
        "targets": [
            {
                "refId": chr(ord("A") + number),
                "datasource": _SOURCE,
                "expr": query.text,
                "legendFormat": query.legend or "__auto",
                "range": not panel.is_number,
                "instant": panel.is_number,
            }
            for number, query in enumerate(panel.queries)
        ],
        "fieldConfig": {"defaults": {"unit": panel.unit.grafana, "min": 0, **custom}, "overrides": []},
        "options": options,
    }


def _lines() -> tuple[str, dict[str, Any], dict[str, Any]]:
    legend = {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []}
    options = {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}
    return "timeseries", options, {"custom": {"lineWidth": 1, "fillOpacity": 10, "showPoints": "never"}}


def _number() -> tuple[str, dict[str, Any], dict[str, Any]]:
    reduce = {"calcs": ["lastNotNull"], "fields": "", "values": False}
    return "stat", {"reduceOptions": reduce, "graphMode": "none", "colorMode": "value"}, {}
