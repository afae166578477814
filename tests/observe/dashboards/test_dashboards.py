"""Dashboards: what readers are given agrees, is well formed, and asks for what is really there."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from buildkit.cli.dashboards import run
from buildkit.errors import DefinitionError
from buildkit.observe.dashboards.dashboard import COLUMNS, Dashboard, Panel, PanelQuery, Unit, place_panels
from buildkit.observe.dashboards.documents import DASHBOARDS, render_dashboards
from buildkit.observe.dashboards.grafana import render_grafana
from buildkit.observe.dashboards.perses import render_perses

_HERE = Path(__file__).parent
_NAMES = [dashboard.name for dashboard in DASHBOARDS]


def _queries() -> list[tuple[str, str]]:
    return [
        (f"{dashboard.name}: {panel.title}", query.text)
        for dashboard in DASHBOARDS
        for row in dashboard.rows
        for panel in row.panels
        for query in panel.queries
    ]


def _of_grafana(document: dict[str, Any]) -> list[tuple[str, str, str, list[tuple[str, str]]]]:
    return [
        (
            panel["title"],
            panel["description"],
            panel["fieldConfig"]["defaults"]["unit"],
            [(target["expr"], target["legendFormat"].replace("__auto", "")) for target in panel["targets"]],
        )
        for panel in document["panels"]
        if panel["type"] != "row"
    ]


def _of_perses(document: dict[str, Any]) -> list[tuple[str, str, str, list[tuple[str, str]]]]:
    found = []
    for layout in document["spec"]["layouts"]:
        for item in layout["spec"]["items"]:
            spec = document["spec"]["panels"][item["content"]["$ref"].rpartition("/")[2]]["spec"]
            plugin = spec["plugin"]["spec"]
            queries = [query["spec"]["plugin"]["spec"] for query in spec["queries"]]
            found.append(
                (
                    spec["display"]["name"],
                    spec["display"]["description"],
                    (plugin.get("format") or plugin["yAxis"]["format"])["unit"],
                    [(query["query"], query.get("seriesNameFormat", "")) for query in queries],
                )
            )
    return found


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=_NAMES)
def test_both_readers_are_given_the_same_panels(dashboard: Dashboard) -> None:
    words = {unit.grafana: unit.perses for unit in Unit}
    grafana = _of_grafana(render_grafana(dashboard))
    assert [(title, about, words[unit], queries) for title, about, unit, queries in grafana] == _of_perses(
        render_perses(dashboard)
    )
    assert len(grafana) == sum(len(row.panels) for row in dashboard.rows)


def test_files_are_those_of_the_documentation() -> None:
    documents = render_dashboards()
    assert set(documents) == {f"{reader}/{name}.json" for reader in ("grafana", "perses") for name in _NAMES}
    text = Path("docs/dashboards.md").read_text("utf-8")
    assert [name for name in _NAMES if f"| `{name}` |" not in text] == []


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=_NAMES)
def test_perses_document_fits_its_schema(dashboard: Dashboard) -> None:
    schema = json.loads((_HERE / "perses.schema.json").read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    document = render_perses(dashboard)
    jsonschema.validate(document, schema)
    wrong = json.loads(json.dumps(document))
    next(iter(wrong["spec"]["panels"].values()))["spec"]["plugin"]["spec"]["colour"] = "red"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, schema)


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=_NAMES)
def test_grafana_document_is_the_same_after_its_own_library_has_read_it(dashboard: Dashboard) -> None:
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins
    from grafana_foundation_sdk.models.dashboard import Dashboard as GrafanaDashboard

    register_default_plugins()
    document = render_grafana(dashboard)
    read = json.loads(JSONEncoder(sort_keys=True).encode(GrafanaDashboard.from_json(document)))
    assert _lost(document, read) == []


def _lost(ours: Any, read: Any, path: str = "") -> list[str]:
    """Return the places that the library did not understand; what it adds are defaults."""
    if isinstance(ours, dict) and isinstance(read, dict):
        return [place for key, value in ours.items() for place in _lost(value, read.get(key), f"{path}.{key}")]
    if isinstance(ours, list) and isinstance(read, list) and len(ours) == len(read):
        return [
            place
            for index, (one, other) in enumerate(zip(ours, read, strict=True))
            for place in _lost(one, other, f"{path}[{index}]")
        ]
    return [] if ours == read or (ours in ([], {}) and read is None) else [f"{path}: {ours!r} became {read!r}"]


def test_panels_do_not_overlap_and_stay_in_the_grid() -> None:
    for dashboard in DASHBOARDS:
        for document_row in dashboard.rows:
            cells = [
                (x, y)
                for place in place_panels(document_row.panels)
                for x in range(place.x, place.x + place.width)
                for y in range(place.y, place.y + place.height)
            ]
            assert len(cells) == len(set(cells))
            assert max(x for x, _ in cells) < COLUMNS
    grafana = [panel["gridPos"] for panel in render_grafana(DASHBOARDS[0])["panels"]]
    taken = {
        (x, y) for at in grafana for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])
    }
    assert len(taken) == sum(at["w"] * at["h"] for at in grafana)
    high = Panel(title="", about="", unit=Unit.COUNT, queries=(PanelQuery(text="a"),), width=8, height=9)
    low = Panel(title="", about="", unit=Unit.COUNT, queries=(PanelQuery(text="a"),), width=16, height=2)
    assert [(place.x, place.y) for place in place_panels((high, low, low))] == [(0, 0), (8, 0), (0, 9)]


@pytest.mark.skipif(not shutil.which("promtool"), reason="Prometheus is not installed")
def test_every_query_is_parsed_by_prometheus(tmp_path: Path) -> None:
    rules = [
        {"record": f"query{number}", "expr": text.replace("$__rate_interval", "5m").replace("$container", ".*")}
        for number, (_, text) in enumerate(_queries())
    ]
    path = tmp_path / "queries.yml"

    def check() -> subprocess.CompletedProcess[str]:
        path.write_text(json.dumps({"groups": [{"name": "dashboards", "rules": rules}]}), "utf-8")  # JSON is YAML
        return subprocess.run(("promtool", "check", "rules", str(path)), capture_output=True, text=True)

    checked = check()
    assert checked.returncode == 0, checked.stderr
    assert re.search(rf"\b{len(rules)} rules found", checked.stdout)
    rules[0]["expr"] += ")"
    assert check().returncode != 0


def test_session_writes_every_file_and_says_what_is_in_its_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path, ["shown/here"])
    documents = render_dashboards()
    assert {
        path.relative_to(tmp_path / "shown/here").as_posix(): path.read_text("utf-8")
        for path in (tmp_path / "shown").rglob("*.json")
    } == documents
    assert capsys.readouterr().err.count("\n") == len(documents)
    run(tmp_path, ["shown/here"])  # again, over what is there
    (tmp_path / "file").write_text("", "utf-8")
    with pytest.raises(DefinitionError, match="file/grafana: Not a directory"):
        run(tmp_path, ["file"])
