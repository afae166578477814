"""Where build backends run: in the builder, on the host if the user allows it, or nowhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from buildkit.errors import BuildError
from buildkit.events import Event, Note, ignore_event
from buildkit.resolve import package_metadata
from buildkit.resolve.package_metadata import PackageResolver, parse_report
from buildkit.tools.python_trap import HostBuildError
from buildkit.tools.resolver import ProjectMetadata, ResolveRequest

KNOWN = ProjectMetadata(name="evil", version="1.0")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "libs/evil").mkdir(parents=True)
    return tmp_path / "libs/evil"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tree: Path) -> list[ResolveRequest]:
    """The requests to a resolver that needs the metadata of ``tree``."""
    seen: list[ResolveRequest] = []

    def resolve(request: ResolveRequest) -> str:
        seen.append(request)
        if request.host_builds or KNOWN in request.described:
            return "the lock"
        raise HostBuildError("code would run", tree=str(tree))

    monkeypatch.setattr(package_metadata, "resolve", resolve)
    return seen


def request(tree: Path, locker: str = "uv") -> ResolveRequest:
    return ResolveRequest(root=tree.parents[1], inputs=("a.in",), python="3.13", locker=locker)


def fail(_tree: Path) -> ProjectMetadata:
    raise BuildError("the builder cannot be built")


def test_metadata_comes_from_the_builder_and_is_asked_once(tree: Path, asked: list[ResolveRequest]) -> None:
    described: list[Path] = []
    packages = PackageResolver(emit=ignore_event, describe=lambda place: described.append(place) or KNOWN, allowed=True)
    assert [packages.resolve(request(tree)) for _ in range(2)] == ["the lock"] * 2
    assert described == [tree]
    assert not any(each.host_builds for each in asked)  # although it is allowed


@pytest.mark.parametrize("locker", ["uv", "pip-tools"])
def test_without_a_builder_nothing_runs_and_the_message_says_what_to_do(
    tree: Path, asked: list[ResolveRequest], locker: str
) -> None:
    with pytest.raises(HostBuildError, match=r"\./libs/evil: only its build backend knows its metadata") as caught:
        PackageResolver(emit=ignore_event).resolve(request(tree, locker))
    assert "nox -s lock -- --allow-host-builds" in caught.value.hint
    assert ('locker = "uv"' in caught.value.hint) == (locker == "pip-tools")
    assert [each.host_builds for each in asked] == [False]


def test_failure_in_the_builder_is_reported_and_nothing_runs_on_the_host(
    tree: Path, asked: list[ResolveRequest]
) -> None:
    with pytest.raises(BuildError, match="the builder cannot be built"):
        PackageResolver(emit=ignore_event, describe=fail).resolve(request(tree))
    assert [each.host_builds for each in asked] == [False]


def test_metadata_that_the_resolver_does_not_take_ends_the_attempts(tree: Path, asked: list[ResolveRequest]) -> None:
    other = ProjectMetadata(name="another", version="1.0")
    with pytest.raises(HostBuildError, match="does not take its metadata"):
        PackageResolver(emit=ignore_event, describe=lambda _tree: other).resolve(request(tree))
    assert len(asked) == 2


@pytest.mark.parametrize("describe", [None, fail])
def test_builds_on_the_host_are_allowed_by_the_user_alone_and_said(
    tree: Path, asked: list[ResolveRequest], describe: package_metadata.Describe | None
) -> None:
    events: list[Event] = []
    assert PackageResolver(emit=events.append, describe=describe, allowed=True).resolve(request(tree)) == "the lock"
    notes = [event for event in events if isinstance(event, Note)]
    assert len(notes) == 1
    assert notes[0].warning
    assert "./libs/evil: its build backend runs on this host, as you allow" in notes[0].text


def report(**changes: object) -> bytes:
    metadata = {"name": "Ev.il", "version": "1.0", "requires_dist": ['Alpha>=1; extra == "more"'], **changes}
    return json.dumps({"version": "1", "install": [{"metadata": metadata}]}).encode()


def test_report_of_pip_is_parsed() -> None:
    found = parse_report(report(provides_extra=["more"], requires_python=">=3.9", summary="x"), "it")
    assert found == ProjectMetadata(
        name="ev-il",
        version="1.0",
        requires_dist=('Alpha>=1; extra == "more"',),
        requires_python=">=3.9",
        provides_extra=("more",),
    )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b'{"install": []}',
        report(name="no name\n"),
        report(version="x"),
        report(requires_dist=["no requirement !"]),
        report(requires_dist=[1]),
        report(requires_python="3.9 or so"),
        report(provides_extra="more"),
    ],
)
def test_what_is_no_report_is_refused(data: bytes) -> None:
    with pytest.raises(BuildError, match="it: what its build backend says is not metadata"):
        parse_report(data, "it")
