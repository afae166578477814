"""Any layer or config gives findings or a BuildError, with printable text."""

from __future__ import annotations

import json
import tarfile
from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st

from buildkit.audit.audit import check_image
from buildkit.audit.config import parse_config
from buildkit.audit.view import ImageView
from buildkit.errors import BuildError
from tests.audit.crafted import GOOD, Member, capable, file, folder, link, make_view, tar

SEED = tar([*GOOD[:6], capable("x", 13), link("a/b", "../c"), file("n" * 300, b"x"), folder("d")])
NAMES = st.text(st.sampled_from("ab/.\n\x1b\u202eé "), min_size=1, max_size=12)
KINDS = st.sampled_from(
    (tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE)
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(
    ("User", "Env", "Cmd", "Entrypoint", "Labels", "ExposedPorts", "Volumes", "Healthcheck", "WorkingDir")
)


@st.composite
def members(draw: st.DrawFn) -> Member:
    return Member(
        path=draw(NAMES),
        kind=draw(KINDS),
        mode=draw(st.integers(0, 0o7777)),
        uid=draw(st.sampled_from((0, 1000))),
        link=draw(NAMES),
        data=draw(st.binary(max_size=40)),
    )


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(SEED) - 1), st.binary(min_size=1, max_size=12))
def test_mutated_tar_gives_findings_or_an_error(at: int, noise: bytes) -> None:
    with suppress(BuildError):
        check_image(make_view(SEED[:at] + noise + SEED[at + len(noise) :]))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(members(), max_size=8), max_size=3))
def test_findings_of_any_members_are_single_lines(layers: list[list[Member]]) -> None:
    try:
        view = make_view(GOOD, *(tar([one for one in layer if one.path.strip("/")]) for layer in layers))
    except BuildError:
        return
    for finding in check_image(view):
        assert (finding.what + finding.path).isprintable(), finding
    assert all(".." not in path.split("/") for path in view.files)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(KEYS, JSON), JSON)
def test_any_config_can_be_checked(runs: dict[str, object], history: object) -> None:
    config = parse_config(json.dumps({"config": runs, "history": history}).encode(), "x")
    for finding in check_image(ImageView(name="x", config=config, layers=())):
        assert (finding.what + finding.path).isprintable(), finding
