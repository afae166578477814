"""The picture of a model's variants."""

import xml.etree.ElementTree as ET

from buildkit.report.variant_chart import VariantPoint, render_variants

_SVG = "{http://www.w3.org/2000/svg}"
POINTS = (
    VariantPoint(name="vad", metric=0.94, latency=1.0, size=1.0, passes=True),
    VariantPoint(name="static <int8>", metric=0.93, latency=0.6, size=0.26, passes=True),
    VariantPoint(name="dynamic", metric=0.94, latency=3.0, size=0.26, passes=False),
)


def test_variants_are_circles_by_accuracy_time_and_bytes():
    root = ET.fromstring(render_variants("Variants of vad", "m.py:f1", POINTS))
    circles = {one.find(f"{_SVG}title").text.partition(":")[0]: one.attrib for one in root.iter(f"{_SVG}circle")}
    assert set(circles) == {"vad", "static <int8>", "dynamic"}
    x, y, r = ({name: float(at[key]) for name, at in circles.items()} for key in ("cx", "cy", "r"))
    assert x["static <int8>"] < x["vad"] < x["dynamic"]
    assert y["static <int8>"] > y["vad"] == y["dynamic"]
    assert r["vad"] ** 2 / r["dynamic"] ** 2 > 3.5
    assert circles["dynamic"]["class"] == "refused"


def test_one_model_alone_and_none_are_drawn():
    assert "<circle" in render_variants("x", "m", POINTS[:1])
    assert "<circle" not in render_variants("x", "m", ())
