"""Alert rules: each has a page, a case in which it fires, is quiet and ends again, and reads only what is emitted."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from buildkit.declare.observe_settings import THRESHOLDS, Observe
from buildkit.observe.configuration import RULES, load_rules, render_thresholds
from tests.observe.cases import ALWAYS, CASES

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "docs/runbooks"
BASE = "https://github.com/xoe-buildkit/buildkit/blob/main/docs/runbooks/"
SECTIONS = ["## What it means", "## How to look", "## What mends it"]


def rules() -> dict[str, dict[str, Any]]:
    """The alerts by name."""
    documents = [yaml.safe_load(text) for _, text in load_rules()]
    return {rule["alert"]: rule for document in documents for group in document["groups"] for rule in group["rules"]}


def kebab(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower()


def test_each_alert_says_how_bad_it_is_and_names_its_page() -> None:
    for name, rule in rules().items():
        assert rule["labels"]["severity"] in ("critical", "warning", "info", "none"), name
        assert rule["annotations"].keys() == {"summary", "runbook_url"}, name
        assert rule["annotations"]["runbook_url"] == f"{BASE}{kebab(name)}.md"


def test_each_page_belongs_to_an_alert_and_says_what_to_do() -> None:
    assert {path.stem for path in PAGES.glob("*.md")} == {kebab(name) for name in rules()}
    for name in rules():
        lines = (PAGES / f"{kebab(name)}.md").read_text().splitlines()
        assert lines[0] == f"# {name}"
        assert [line for line in lines if line.startswith("## ")] == SECTIONS
        assert "kubectl" not in "\n".join(lines)
    listed = re.findall(r"\(runbooks/([a-z-]+)\.md\)", (ROOT / "docs/alerts.md").read_text())
    assert sorted(listed) == sorted(kebab(name) for name in rules())


def test_each_alert_has_a_case() -> None:
    assert [case.alert for case in CASES] + [ALWAYS] == sorted(rules(), key=[*(c.alert for c in CASES), ALWAYS].index)


def test_each_threshold_is_used_and_each_used_one_exists() -> None:
    used = {name for rule in rules().values() for name in re.findall(r"xoe:threshold:(\w+)", rule["expr"])}
    assert used == {one.name for one in THRESHOLDS}


def write_rules(folder: Path, observe: Observe | None = None) -> None:
    for name, text in (("thresholds.yml", render_thresholds(observe or Observe())), *load_rules()):
        (folder / name).write_text(text)


def expected(case: Any) -> dict[str, Any]:
    rule = rules()[case.alert]
    about = {"summary": case.summary, "runbook_url": rule["annotations"]["runbook_url"]}
    return {"exp_labels": {**case.labels, "severity": case.severity}, "exp_annotations": about}


@pytest.mark.tools
def test_each_alert_is_quiet_fires_and_ends(tmp_path: Path) -> None:
    """All cases are one run: an alert that fires for the series of another case is a failure, too."""
    write_rules(tmp_path)
    always = {"exp_labels": {"severity": "none"}, "exp_annotations": dict(rules()[ALWAYS]["annotations"])}
    asked = [{"eval_time": "5m", "alertname": ALWAYS, "exp_alerts": [always]}]
    series: dict[str, str] = {}
    for case in CASES:
        assert not series.keys() & case.series.keys()
        series |= case.series
        for minute, found in ((case.quiet, []), (case.fires, [expected(case)]), (case.ended, [])):
            asked.append({"eval_time": f"{minute}m", "alertname": case.alert, "exp_alerts": found})
    inputs = [{"series": name, "values": values} for name, values in series.items()]
    names = [f"{name}.yml" for name in ("thresholds", *RULES)]
    test = {"interval": "1m", "input_series": inputs, "alert_rule_test": asked}
    (tmp_path / "test.yml").write_text(
        yaml.safe_dump({"rule_files": names, "evaluation_interval": "1m", "tests": [test]})
    )
    subprocess.run(("promtool", "check", "rules", *names), cwd=tmp_path, check=True, capture_output=True)
    done = subprocess.run(("promtool", "test", "rules", "test.yml"), cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.tools
def test_a_threshold_of_the_project_counts(tmp_path: Path) -> None:
    write_rules(tmp_path, Observe(thresholds=(("gpu_temperature_celsius", 95.0),)))
    case = next(case for case in CASES if case.alert == "GpuHot")
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in case.series.items()],
        "alert_rule_test": [{"eval_time": "35m", "alertname": "GpuHot", "exp_alerts": []}],
    }
    document = {"rule_files": ["thresholds.yml", "gpus.yml"], "evaluation_interval": "1m", "tests": [test]}
    (tmp_path / "test.yml").write_text(yaml.safe_dump(document))
    subprocess.run(("promtool", "test", "rules", "test.yml"), cwd=tmp_path, check=True, capture_output=True)


OWN = re.compile(r"(?:xoe|container|speech|model)_[a-z0-9_]+")
SOURCES = ("buildkit/monitor", "buildkit/inspection", "stages/runtime/app")


def emitted() -> set[str]:
    """The metrics that this project's sources name, with what Prometheus adds to those of histograms.

    A name that is put together of a beginning (``model_drift_``) and words is that of each word in the same file.
    """
    found: set[str] = set()
    for path in (path for folder in SOURCES for path in (ROOT / folder).rglob("*.py")):
        nodes = ast.walk(ast.parse(path.read_text()))
        texts = {one.value for one in nodes if isinstance(one, ast.Constant) and isinstance(one.value, str)}
        names = {one for one in texts if OWN.fullmatch(one)}
        whole = {f"{one}{word}" for one in names if one.endswith("_") for word in texts}
        found |= names | whole | {f"{name}_bucket" for name in names}
    return found


def test_alerts_read_only_what_is_emitted() -> None:
    known = emitted()
    for name, rule in rules().items():
        expression = re.sub(r'"[^"]*"', "", rule["expr"].replace("xoe:threshold:", "threshold:"))
        assert set(OWN.findall(expression)) <= known, name


def test_critical_alerts_outlive_a_short_outage_of_alertmanager() -> None:
    for name, rule in rules().items():
        if rule["labels"]["severity"] == "critical":
            assert rule["keep_firing_for"] in ("10m", "15m"), name
