"""No panel asks for what nobody tells: metrics and labels of every query, held against their sources."""

from __future__ import annotations

from pathlib import Path

import pytest

from buildkit.observe.dashboards.documents import DASHBOARDS
from tests.observe.dashboards.promql import find_names
from tests.observe.dashboards.sources import TRITON, ask_haproxy, ask_monitor, ask_service

_OF_PROMETHEUS = {"instance", "job", "service", "environment", "project"}  # of its configuration, for each target


@pytest.mark.tools
def test_every_metric_and_label_in_a_query_is_really_there(tmp_path: Path) -> None:
    known = {**ask_monitor(tmp_path), **ask_service(), **ask_haproxy(tmp_path), **TRITON}
    queries = [
        query.text
        for dashboard in DASHBOARDS
        for row in dashboard.rows
        for panel in row.panels
        for query in panel.queries
    ]
    queries += [f"{one.metric}{{{one.label}=~'x'}}" for dashboard in DASHBOARDS for one in dashboard.choices]
    for query in queries:
        metrics, labels = find_names(query)
        assert metrics, query
        assert metrics <= known.keys(), f"{query}: nobody has {metrics - known.keys()}"
        everywhere = set.union(*(known[name] for name in metrics)) | _OF_PROMETHEUS
        assert labels <= everywhere, f"{query}: {labels - everywhere} is no label of {metrics}"


@pytest.mark.parametrize(
    ("query", "metrics", "labels"),
    [
        ("a", {"a"}, set()),
        (
            'sum by (x, y) (rate(a_total{b=~"c{d}", e!="f"}[5m])) / 1e6 > 0 or vector(0)',
            {"a_total"},
            {"x", "y", "b", "e"},
        ),
        ("histogram_quantile(0.5, sum by (le, m) (rate(h_bucket[$__rate_interval])))", {"h_bucket"}, {"m"}),
        ("count(a == 1) / on (x) group_left (y) b", {"a", "b"}, {"x", "y"}),
    ],
)
def test_names_are_found_in_queries(query: str, metrics: set[str], labels: set[str]) -> None:
    assert find_names(query) == (metrics, labels)
