"""Texts in an ONNX model's metadata: what loaders evaluate, render or load."""

import base64
import json

import pytest

from buildkit.scan import Verdict
from tests.scan.formatmaker import onnx, onnx_node, pb, rules, scan_bytes
from tests.scan.pickler import malicious_pickle


def model(*values: str, key: str = "names") -> bytes:
    return onnx(onnx_node("Relu"), more=b"".join(pb((14, pb((1, key), (2, value)))) for value in values))


@pytest.mark.parametrize(
    "value",
    [
        "__import__('os').system('id')", "\t open('/etc/passwd').read()", "{0: exec('1')}", "getattr(a, b)()",
        "[x for x in ().__class__.__base__.__subclasses__()]", "(lambda: 1)()", "check_requirements('evil')",
        "{'a': 1, **breakpoint()}", "f\"{input()}\"",
    ],
)  # fmt: skip
def test_metadata_that_acts_when_it_is_evaluated_is_found(value):
    assert rules(model(value)) == {"onnx-metadata-code"}
    assert "onnx-metadata-code" in rules(model(value, "{0: 'person'}"))


@pytest.mark.parametrize(
    "value",
    [
        "{0: 'person', 1: 'car (red)'}", "[640, 640]", "Ultralytics YOLO11n model (detect)", "Net(v2)", "AGPL-3.0 (https://x.test)",
        "", "(", "sum of all (2, 3)", "{{ messages }}", "2026-01-02T03:04:05",
    ],
)  # fmt: skip
def test_metadata_that_is_data_is_clean(value):
    assert scan_bytes(model(value)).verdict is Verdict.CLEAN


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        ("{% set u='a_b'[1] %}{{ messages[u~u~'class'~u~u] }}", "jinja-escape"),
        (base64.b64encode(malicious_pickle()).decode(), "pickle-runs-code"),
        (json.dumps({"x": base64.b64encode(malicious_pickle()).decode()}), "pickle-runs-code"),
        (json.dumps({"_target_": "os.system"}), "hydra-target"),
    ],
)
def test_metadata_is_checked_as_settings_are(value, rule):
    assert rules(model(value, key="config")) == {rule}


def test_metadata_that_is_not_followed_is_not_clean():
    assert scan_bytes(model("-" * 200_000 + "f('x')")).verdict is not Verdict.CLEAN
    assert scan_bytes(model("a" * (4 * 2**20 + 1))).verdict is Verdict.PARTIAL
