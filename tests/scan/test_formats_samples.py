"""Files that the real libraries wrote (samples/formats/make.py): honest ones are clean, hostile ones are found."""

import gzip
from pathlib import Path

import pytest

from buildkit.scan import Verdict
from tests.scan.formatmaker import look

SAMPLES = sorted((Path(__file__).parent / "samples" / "formats").glob("*.gz"))


def test_there_are_samples_of_both_kinds():
    assert sum(path.name.startswith("ok-") for path in SAMPLES) >= 30
    assert sum(path.name.startswith("bad--") for path in SAMPLES) >= 20


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_samples_of_the_real_libraries(path):
    found = look(gzip.decompress(path.read_bytes()))
    if path.name.startswith("ok-"):
        assert (found.findings, found.gaps, found.verdict) == ((), (), Verdict.CLEAN)
        assert found.formats
    else:
        assert {one.rule.id for one in found.findings} == {path.name.split("--")[1]}


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_a_sample_cut_off_is_scanned_to_its_end_all_the_same(path):
    content = gzip.decompress(path.read_bytes())
    for part in range(1, 8):
        look(content[: len(content) * part // 8])
