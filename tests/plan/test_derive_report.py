"""What passes a gate, and what is locked of a report."""

import json
from dataclasses import replace

import pytest

from buildkit.digest import FileHash
from buildkit.locks.derivation import Derivation, DeriveGate
from buildkit.locks.model_source import RepoSource
from buildkit.locks.pins import Model, ModelFile
from buildkit.plan.derivations import make_derived_from
from buildkit.plan.derive_report import DeriveReport, MeasuredModel, find_failures, locked_report

GATE = DeriveGate(data="path:d", metric="m.py:f", max_loss=0.01, max_size=0.5, max_latency=0.8)
STATIC = Derivation(of="vad", tool="onnx-quantise-static", gate=GATE)
SOURCE = MeasuredModel(size=1000, metric=0.94, latency=0.010, p50=0.012, load=0.1, operators={"Conv": 6}, quantised={})
INT8 = MeasuredModel(
    size=250, metric=0.938, latency=0.0062, p50=0.007, load=0.1, operators={"Conv": 6}, quantised={"Conv": 6}
)


def report(better="higher", **changes):
    return DeriveReport(
        name="int8", of="vad", tool=STATIC.tool, source=SOURCE, derived=replace(INT8, **changes), better=better,
        processor="x86_64 avx2", threads=2, versions=(("onnxruntime", "1.32.0"),),
    )  # fmt: skip


def test_model_within_its_limits_passes():
    assert find_failures(report(), STATIC) == ()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"metric": 0.16}, "its metric is worse by 0.78 (0.94 → 0.16), and at most 0.01 is allowed"),
        ({"metric": None}, "its metric is not known"),
        ({"size": 600}, "it has 0.600 of the bytes of vad, and at most 0.5 is allowed"),
        ({"latency": 0.03}, "a call takes 3.00 of the time (10 ms → 30 ms), and at most 0.8 is allowed"),
        (
            {"latency": None},
            "the time of a call is not known: the metric must call the models, and vad must be ONNX, too",
        ),
    ],
)
def test_each_limit_is_told_with_its_figures(changes, said):
    assert find_failures(report(**changes), STATIC) == (said,)


def test_all_failures_are_told_at_once():
    assert len(find_failures(report(metric=0.1, size=900, latency=0.02), STATIC)) == 3


def test_lower_may_be_better():
    worse = report(better="lower", metric=0.96)
    assert worse.loss == pytest.approx(0.02)
    assert find_failures(worse, STATIC)
    assert find_failures(report(better="lower", metric=0.5), STATIC) == ()


def test_what_gains_nothing_is_refused():
    free = replace(STATIC, gate=replace(GATE, max_size=None, max_latency=None))
    (said,) = find_failures(report(size=995, latency=0.0099), free)
    assert said.startswith("it gains nothing over vad: metric 0.938 of 0.94, 0.99 of the bytes")
    assert find_failures(report(size=995, latency=0.009), free) == ()
    assert find_failures(report(size=995, latency=0.0099, load=0.05), free) == ()
    assert find_failures(report(quantised={}), free) == ("nothing in it could be quantised",)
    assert find_failures(report(size=2000), replace(free, tool="to-safetensors")) == ()  # another format


def test_lock_keeps_no_time():
    kept = dict(locked_report(report()))
    assert kept == {
        "metric": "0.938", "metric-of-source": "0.94", "size": "0.25", "quantised": "Conv 6", "operators": "6",
        "operators-of-source": "6", "processor": "x86_64 avx2",
    }  # fmt: skip


def test_report_survives_json():
    assert DeriveReport.from_json(json.loads(json.dumps(report().as_json()))) == report()


def test_figure_that_is_no_number_is_not_believed():
    with pytest.raises(ValueError, match="no number"):
        MeasuredModel.from_json({"size": 1, "latency": float("nan")})


def test_key_follows_everything_that_decides_the_files():
    file = ModelFile(path="m.onnx", sha256=FileHash("1" * 64), size=1, source="m.onnx")
    source = Model(name="vad", version="1", source=RepoSource(path="m"), license="", files=(file,))
    libraries, read = [("onnxruntime", "1.32.0")], {"m.py": [["m.py", "2" * 64]]}

    def key(derivation=STATIC, source=source, libraries=libraries, read=read):
        return make_derived_from(derivation, source, libraries, read).key

    other = replace(source, files=(replace(file, sha256=FileHash("3" * 64)),))
    keys = {
        key(), key(source=other), key(libraries=[("onnxruntime", "1.33.0")]), key(read={"m.py": [["m.py", "4" * 64]]}),
        key(replace(STATIC, options='{"per-channel":true}')), key(replace(STATIC, tool="onnx-quantise-dynamic")),
        key(replace(STATIC, gate=replace(GATE, max_loss=0.02))),
    }  # fmt: skip
    assert len(keys) == 7
    same = (replace(STATIC, stage="elsewhere"), replace(STATIC, ranges=(("x", (0.0, 1.0)),), report=(("size", "1"),)))
    assert {key(one) for one in same} | {key(source=replace(source, version="2"))} == {key()}
