"""For which processors a build is, by its options and the project's."""

from pathlib import Path

import pytest

from buildkit.build.options import BuildOptions
from buildkit.cli.options import parse_build_options
from buildkit.declare.project import Project, parse_project
from buildkit.errors import DefinitionError
from buildkit.remote.stage_index import stage_index_tag


@pytest.fixture
def project(monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    return parse_project("tool.buildkit.arch = ['x86_64', 'aarch64']", Path("/x"))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), ("aarch64",)),
        (("--arch", "amd64"), ("x86_64",)),
        (("--platform", "linux/arm64,linux/amd64"), ("aarch64", "x86_64")),
        (("--arch", "x86_64", "--arch", "amd64"), ("x86_64",)),
        (("--arch", "all"), ("x86_64", "aarch64")),
        (("--push", "r.example/a"), ("x86_64", "aarch64")),
        (("--push", "r.example/a", "--arch", "arm64"), ("aarch64",)),
    ],
)
def test_build_is_for_this_machine_and_a_push_for_all(
    arguments: tuple[str, ...], expected: tuple[str, ...], project: Project
) -> None:
    assert parse_build_options(arguments, "app").choose_arches(project) == expected


def test_unknown_processor_and_one_without_images_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DefinitionError, match=r"no image can be for 'riscv64': it is one of x86_64, amd64"):
        parse_build_options(("--arch", "riscv64"), "app")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    only = parse_project("", Path("/x"))
    assert BuildOptions(push="r.example/a").choose_arches(only) == ("x86_64",)
    with pytest.raises(DefinitionError, match="no image is for `aarch64`"):
        BuildOptions(arches=("aarch64",)).choose_arches(only)


def test_no_stage_has_the_tag_of_another_processors_index() -> None:
    assert stage_index_tag("app", "aarch64") == "cache-of-app__aarch64"
    assert stage_index_tag("app") == "cache-of-app"
