"""The documents of all dashboards, by the names of their files. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping

from buildkit.observe.dashboards.containers import CONTAINERS, GPUS
from buildkit.observe.dashboards.grafana import render_grafana
from buildkit.observe.dashboards.perses import render_perses
from buildkit.observe.dashboards.services import BUILDS, SERVICES

DASHBOARDS = (CONTAINERS, GPUS, SERVICES, BUILDS)


def render_dashboards() -> Mapping[str, str]:
    """Return JSON by path: ``grafana/NAME.json`` and ``perses/NAME.json``."""
    return {
        f"{reader}/{dashboard.name}.json": json.dumps(render(dashboard), indent=2, ensure_ascii=False) + "\n"
        for reader, render in (("grafana", render_grafana), ("perses", render_perses))
        for dashboard in DASHBOARDS
    }
