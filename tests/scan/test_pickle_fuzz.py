"""Properties: nothing raises or hangs, ordinary pickles are clean, and an import at any position is found."""

import gzip
import io
import pickle
import pickletools
import zipfile

from hypothesis import example, given, settings
from hypothesis import strategies as st

from buildkit.scan import ScanLimits, Verdict
from tests.scan.pickler import describe, malicious_pickle, pickle_stream, scan_bytes, text
from tests.scan.test_archives_others import STREAMS, seven_zip, tar
from tests.scan.test_archives_zip import torch
from tests.scan.test_pickle_streams import joblib, legacy, tensor

SMALL = ScanLimits(opcodes=100_000, memo=10_000, inflated=10_000_000, spill=5_000_000)
LEAF = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(max_size=40) | st.complex_numbers()
)
VALUE = st.recursive(
    LEAF,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=5)
        | st.frozensets(st.integers() | st.text(max_size=4), max_size=5)
    ),
    max_leaves=25,
)
SAMPLES = [
    pickle.dumps({"a": [1, "x", b"y", 2.5], "b": {1, 2}}, protocol=4),
    pickle.dumps([1, ("a", "b"), {"c": None}], protocol=0),
    malicious_pickle(),
    legacy(tensor()),
    joblib("f8", bytes(24), count=3),
    bytes(torch()),
    bytes(torch(malicious_pickle())),
    tar({"a.pkl": malicious_pickle(), "b": b"x"}),
    seven_zip(malicious_pickle()),
    *(pack(pickle_stream(text("x"))) for pack in STREAMS.values()),
]


@given(st.binary(max_size=300))
@example(b"S\x00\\\x00\x00")  # an escape that is none, of which Python warns
@example(b"S'\\q\\777'\n.")
@settings(max_examples=300)
def test_random_bytes_raise_nothing(content):
    scan_bytes(content, limits=SMALL)
    scan_bytes(b"\x80\x04" + content, limits=SMALL)


@given(
    st.sampled_from(SAMPLES),
    st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), max_size=6),
    st.integers(0, 5000),
)
@settings(max_examples=400)
def test_mutated_pickle_files_raise_nothing(sample, changes, cut):
    bent = bytearray(sample)
    for at, value in changes:
        bent[at % len(bent)] = value
    scan_bytes(bytes(bent), limits=SMALL)
    scan_bytes(bytes(bent[: cut % len(bent)]), limits=SMALL)


@given(VALUE, st.integers(0, 5))
def test_ordinary_pickle_is_clean(value, protocol):
    found = scan_bytes(pickle.dumps(value, protocol=protocol))
    assert found.verdict is Verdict.CLEAN, describe(found)


@given(VALUE, st.integers(0, 5), st.data())
def test_import_at_any_position_is_found(value, protocol, data):
    """At any opcode of an honest pickle, a global is fetched, called and dropped: an unpickler would not notice."""
    content = pickle.dumps(value, protocol=protocol)
    places = [place for _, _, place in pickletools.genops(content) if place or protocol < 2]
    at = data.draw(st.sampled_from([place for place in places if place != 2 or protocol < 4]))
    bent = content[:at] + b"cos\nsystem\n(S'id'\ntR0" + content[at:]
    found = scan_bytes(bent)
    assert any(one.rule.id == "pickle-runs-code" for one in found.findings), describe(found)


@given(VALUE, st.data())
def test_import_is_found_in_every_container(value, data):
    content = pickle.dumps(value, protocol=2)[:-1] + b"0cos\nsystem\n(S'id'\ntR."
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("a", content)
    packed = {"zip": zipped.getvalue(), "gzip": gzip.compress(content), "tar": tar({"a": content})}
    packed |= {"zip in tar": tar({"z": zipped.getvalue()}), "7z": seven_zip(content), "bytes": pickle.dumps([content])}
    name = data.draw(st.sampled_from(sorted(packed)))
    found = scan_bytes(packed[name])
    if name == "7z":  # not read, and so never clean
        assert "unread-archive" in {one.rule.id for one in found.findings}
        return
    assert any(one.rule.id == "pickle-runs-code" for one in found.findings), describe(found)
