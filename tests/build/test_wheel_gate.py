"""The wheel gate: what it refuses, what it warns of, what the user accepts, and that each content is scanned once."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from buildkit.build import wheel_gate
from buildkit.build.context import open_context
from buildkit.build.wheel_gate import WheelGate
from buildkit.declare.project import parse_project
from buildkit.digest import FileHash
from buildkit.errors import WheelError
from buildkit.events import Event, Note
from buildkit.scan import Scan, scan_wheel
from tests.layers.wheelmaker import NAME, make_wheel

CUT = pickle.dumps([1] * 99)[:-5]  # a pickle that cannot be fully scanned
ACCEPT = '[[accept-in-wheel]]\nrule = "{}"\ndistribution = "demo-pkg"\npath = "{}"\nreason = "read it"\n'


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, events: list[Event]) -> Callable[..., None]:
    """Check a wheel of some files, under settings and an allow-file."""
    monkeypatch.setenv("BUILDKIT_CACHE", str(tmp_path / "cache"))

    def check(files: dict[str, bytes], *, settings: str = "", allow: str = "") -> None:
        made = make_wheel(tmp_path / "made", files)
        sha256 = FileHash(hashlib.sha256(made.read_bytes()).hexdigest())
        (tmp_path / "requirements").mkdir(exist_ok=True)
        (tmp_path / "requirements/models.allow.toml").write_text(allow)
        with open_context(parse_project(f"[tool.buildkit]\n{settings}", tmp_path), events.append) as context:
            made.rename(context.blobs.file_path(sha256, made.name))
            WheelGate(context).check([context.blobs.file_path(sha256, made.name)])

    return check


def warnings(events: list[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, Note) and event.warning]


def test_plain_wheel_passes_without_a_word(gate: Callable[..., None], events: list[Event]) -> None:
    gate({"demo/__init__.py": b""})
    assert events == []


def test_refusal_names_wheel_file_rule_reason_and_the_entry_that_accepts(gate: Callable[..., None]) -> None:
    with pytest.raises(WheelError) as caught:
        gate({"demo.pth": b"import demo\n"})
    assert f"{NAME}-1.0-py3-none-any.whl: refused: 1 finding" in caught.value.message
    assert "wheel-startup-code: demo.pth: it runs 'import demo'" in caught.value.message
    assert "why: Python's site module runs" in caught.value.message
    entry = '[[accept-in-wheel]] rule = "wheel-startup-code", distribution = "demo-pkg", path = "demo.pth", reason'
    assert caught.value.hint.endswith(entry)


@pytest.mark.parametrize("path", ["demo.pth", "*.pth"])
def test_finding_that_is_accepted_by_distribution_and_path_passes(
    gate: Callable[..., None], events: list[Event], path: str
) -> None:
    gate({"demo.pth": b"import demo\n"}, allow=ACCEPT.format("wheel-startup-code", path))
    assert events == []


@pytest.mark.parametrize(
    "entry",
    [
        ACCEPT.format("wheel-startup-code", "other.pth"),
        ACCEPT.format("wheel-setuid", "demo.pth"),
        ACCEPT.format("wheel-startup-code", "demo.pth").replace("demo-pkg", "another"),
    ],
)
def test_entry_for_something_else_accepts_nothing(gate: Callable[..., None], entry: str) -> None:
    with pytest.raises(WheelError):
        gate({"demo.pth": b"import demo\n"}, allow=entry)


def test_member_of_an_archive_is_accepted_by_the_archives_path(gate: Callable[..., None], tmp_path: Path) -> None:
    files = {"demo/a.pkl": b"cposix\nsystem\n(S'true'\ntR."}
    with pytest.raises(WheelError, match=r"pickle-runs-code: demo/a\.pkl"):
        gate(files)
    gate(files, allow=ACCEPT.format("pickle-runs-code", "demo/*"))


def test_lesser_findings_are_one_warning(gate: Callable[..., None], events: list[Event]) -> None:
    gate({"demo.pth": b"/srv/a\n/srv/b\n"})
    (text,) = warnings(events)
    assert text.startswith(
        f"{NAME}-1.0-py3-none-any.whl: medium wheel-search-path: demo.pth: it adds '/srv/a', and 1 more"
    )


@pytest.mark.parametrize(
    ("setting", "content", "refused", "warned"),
    [
        ("refuse-known", CUT, True, False),
        ("refuse", CUT, True, False),
        ("warn", CUT, False, True),
        ("refuse-known", b"\1\2\3 no format", False, False),
        ("refuse", b"\1\2\3 no format", True, False),
        ("warn", b"\1\2\3 no format", False, False),
    ],
)
def test_setting_decides_about_what_could_not_be_scanned(
    gate: Callable[..., None], events: list[Event], setting: str, content: bytes, refused: bool, warned: bool
) -> None:
    settings = f'unscanned-wheels = "{setting}"'
    name = "demo/a.pkl" if content is CUT else "demo/a.onnx"
    if refused:
        with pytest.raises(WheelError, match="not-fully-scanned"):
            gate({name: content}, settings=settings)
    else:
        gate({name: content}, settings=settings)
    assert bool(warnings(events)) is warned


def test_content_is_scanned_once_under_the_same_rules(
    gate: Callable[..., None], monkeypatch: pytest.MonkeyPatch, events: list[Event]
) -> None:
    scanned: list[str] = []

    def count(path: Path, allowed: frozenset[str]) -> Scan:
        scanned.append(path.name)
        return scan_wheel(path, allowed)

    monkeypatch.setattr(wheel_gate, "scan_wheel", count)
    for _ in range(3):
        gate({"demo.pth": b"/srv/a\n"})
    assert len(scanned) == 1
    assert len(warnings(events)) == 3, "a known verdict is judged like a new one"
    gate({"demo.pth": b"/srv/a\n"}, allow='[[global]]\nname = "a.B"\nreason = "ours"\n')
    assert len(scanned) == 2


def test_failure_of_the_scanner_is_no_clean_wheel_and_is_not_kept(
    gate: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hostile files are made to break scanners."""

    def fail(_path: Path, _allowed: frozenset[str]) -> Scan:
        raise RecursionError

    with monkeypatch.context() as patch:
        patch.setattr(wheel_gate, "scan_wheel", fail)
        with pytest.raises(WheelError, match="the scanner failed"):
            gate({"demo/__init__.py": b""})
    gate({"demo/__init__.py": b""})
