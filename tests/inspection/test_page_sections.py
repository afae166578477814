"""Sections of the page beside containers."""

from __future__ import annotations

from buildkit.gpu.use import GpuHealth, GpuUse
from buildkit.inspection.page_sections import list_findings, list_gpus


def test_gpus_are_devices_with_what_they_say_of_themselves() -> None:
    health = GpuHealth(name="H200", temperature=61, power=402.5, corrected=4, uncorrected=0, xid=79)
    lost = GpuUse(index=1, uuid="GPU-b", problem="GPU is lost")
    whole, broken = list_gpus((GpuUse(index=0, uuid="GPU-a", memory=5, total=9, utilisation=0.5, health=health), lost))
    assert whole == {
        "index": 0, "uuid": "GPU-a", "name": "H200", "utilisation": 0.5, "memory": 5, "total": 9, "temperature": 61,
        "power": 402.5, "corrected": 4, "uncorrected": 0, "xid": 79, "problem": "",
    }  # fmt: skip
    assert (broken["problem"], broken["memory"], broken["xid"]) == ("GPU is lost", None, None)


def test_findings_are_cut_and_counted() -> None:
    one = {"rule": "r", "severity": "high", "container": "c", "what": "w", "path": None, "advice": "long" * 99}
    shown = list_findings({"findings": [one] * 1000, "accepted": []})
    assert (len(shown["findings"]), shown["total"]) == (200, 1000)
    assert shown["findings"][0] == {"rule": "r", "severity": "high", "container": "c", "what": "w", "path": None}
