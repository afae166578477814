"""Files written by the real libraries (samples/formats/make.py): benign ones are clean, malicious ones are found."""

import gzip
from pathlib import Path

import pytest

from buildkit.scan import Verdict
from tests.scan.formatmaker import scan_bytes

SAMPLES = sorted((Path(__file__).parent / "samples" / "formats").glob("*.gz"))


def test_samples_include_malicious_and_benign_files():
    assert sum(path.name.startswith("ok-") for path in SAMPLES) >= 30
    assert sum(path.name.startswith("bad--") for path in SAMPLES) >= 20


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_sample_of_real_library_gets_expected_verdict(path):
    found = scan_bytes(gzip.decompress(path.read_bytes()))
    if path.name.startswith("ok-"):
        assert (found.findings, found.gaps, found.verdict) == ((), (), Verdict.CLEAN)
        assert found.formats
    else:
        assert {one.rule.id for one in found.findings} == {path.name.split("--")[1]}


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_truncated_sample_raises_nothing(path):
    content = gzip.decompress(path.read_bytes())
    for part in range(1, 8):
        scan_bytes(content[: len(content) * part // 8])
