"""docs/tracing.md shows services that are valid; docs/drift.md names every option and series, and its example runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from buildkit.cli import drift
from buildkit.declare.services_file import parse_services
from buildkit.xoe_runtime.drift_profile import parse_profile
from tests.xoe_runtime.laid import Lay, laid  # noqa: F401 - a fixture

ROOT = Path(__file__).parents[2]
TRACING, DRIFT = ((ROOT / f"docs/{name}.md").read_text("utf-8") for name in ("tracing", "drift"))


def test_collector_is_a_service_that_may_connect_outward() -> None:
    override, collector = re.findall(r"```toml\n(.*?)```", TRACING, re.DOTALL)
    rest = '[services.app]\nstage = "runtime"\n[environments.production]\nservices = ["app", "collector"]\n'
    found = parse_services(rest + collector + override, stages=("runtime",))
    assert {service.name for service in found.services} == {"app", "collector"}


@pytest.mark.parametrize("action", ["profile", "report"])
def test_every_option_is_explained(action: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        drift.run(ROOT, (action, "--help"))
    options = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", capsys.readouterr().out)) - {"--help"}
    assert {option for option in options if option not in DRIFT} == set()


def test_every_series_of_the_service_is_explained() -> None:
    code = (ROOT / "stages/runtime/app/performance.py").read_text("utf-8")
    named = set(re.findall(r'"(model_[a-z_]+)"', code)) | set(re.findall(r'family\("([a-z_]+)"', code))
    assert len(named) > 8
    assert {name for name in named if f"{name}`" not in DRIFT and f"{name}{{" not in DRIFT} == set()


def test_example_runs_with_the_module_as_an_image_has_it(
    laid: Lay,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    laid('[framework]\nthreads = "cgroup"')
    (tmp_path / "profile.json").write_text((ROOT / "stages/runtime/app/profiles/silero-vad.json").read_text("utf-8"))
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", DRIFT, re.DOTALL)
    exec(f"import time\nfrom pathlib import Path\n{code}", {})
    told = capsys.readouterr().out
    assert told.count("Drift(samples=0, needed=") == len(parse_profile(Path("profile.json").read_text()).signals)
