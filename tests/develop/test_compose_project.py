"""A compose project on disk, and the commands that its rules lead to."""

from __future__ import annotations

from pathlib import Path

import pytest

from buildkit.declare.compose_file import ComposeBuild
from buildkit.develop import compose_watch
from buildkit.develop.compose_project import find_compose, load_compose, load_ignored, select_rules
from buildkit.develop.compose_watch import build_argv, find_watched
from buildkit.errors import BuildError, DefinitionError, ToolError
from buildkit.running.watch_rules import Action, WatchRule
from buildkit.tools.composed import ComposedContainer, find_dependents, make_again
from buildkit.tools.process import Command

COMPOSE = """
services:
  web:
    build: { context: web, target: "of-${TAG}" }
    develop: { watch: [{ action: rebuild, path: web }] }
  db: { image: db }
"""


def test_variables_come_from_the_environment_before_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "compose.yml").write_text(COMPOSE)
    (tmp_path / ".env").write_text("# a comment\nexport TAG='one'\n")
    monkeypatch.delenv("TAG", raising=False)
    assert load_compose(find_compose(tmp_path)).services[0].build.target == "of-one"
    monkeypatch.setenv("TAG", "two")
    assert load_compose([tmp_path / "compose.yml"]).services[0].build.target == "of-two"


@pytest.mark.parametrize("name", [".env", "web/.containerignore"])
def test_a_file_that_is_no_text_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "compose.yml").write_text(COMPOSE)
    (tmp_path / "web").mkdir()
    (tmp_path / name).write_bytes(b"TAG=gr\xfcn\n")
    with pytest.raises(DefinitionError, match=f"{name}: not UTF-8 text"):
        load_ignored(tmp_path, load_compose([tmp_path / "compose.yml"]).services[0].build)


def test_services_without_rules_are_watched_on_no_account(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text(COMPOSE)
    project = load_compose([tmp_path / "compose.yaml"])
    assert list(select_rules(project, [])) == ["web"]
    with pytest.raises(DefinitionError, match="db: there is nothing to watch"):
        select_rules(project, ["db"])
    with pytest.raises(DefinitionError, match="there is no service `wbe`"):
        select_rules(project, ["wbe"])


def test_an_override_is_found_and_a_profile_that_is_off_is_not_watched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "compose.yaml").write_text(COMPOSE)
    (tmp_path / "compose.override.yml").write_text("services: { web: { profiles: [front] } }")
    monkeypatch.delenv("COMPOSE_PROFILES", raising=False)
    project = load_compose(find_compose(tmp_path))
    with pytest.raises(DefinitionError, match="nothing to watch"):
        select_rules(project, [])
    assert list(select_rules(project, ["web"])) == ["web"]
    monkeypatch.setenv("COMPOSE_PROFILES", "back,front")
    assert list(select_rules(project, [])) == ["web"]


@pytest.mark.parametrize("name", [".containerignore", ".dockerignore", "Dockerfile.dockerignore"])
def test_ignore_file_is_that_of_the_build_context(tmp_path: Path, name: str) -> None:
    (tmp_path / "web").mkdir()
    (tmp_path / "web/Dockerfile").touch()
    (tmp_path / "web" / name).write_text("*.log\n")
    (tmp_path / ".dockerignore").write_text("*\n")
    is_ignored = load_ignored(tmp_path, ComposeBuild(context="./web"))
    assert [path for path in ("web/a.log", "web/a.py", "other/a.log") if is_ignored(path)] == ["web/a.log"]
    assert not load_ignored(tmp_path, None)("web/a.log")


def test_folders_are_watched_deeply_and_files_by_their_folder(tmp_path: Path) -> None:
    (tmp_path / "src/deep").mkdir(parents=True)
    (tmp_path / "conf").mkdir()
    rules = [WatchRule(service="w", path=path, action=Action.RESTART) for path in ("src", "conf/a.conf", "none/b", "c")]
    assert find_watched(tmp_path, rules) == ({"src"}, {"conf", "."})


def test_build_has_the_options_of_the_compose_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIVEN", "yes")
    monkeypatch.delenv("ABSENT", raising=False)
    build = ComposeBuild(
        target="dev", args=(("A", "1"), ("GIVEN", None), ("ABSENT", None)), contexts=(("more", "../more"),),
        labels=(("l", "v"),), network="host",
    )  # fmt: skip
    assert build_argv(build, "shop_web", Path("/p/Dockerfile")) == (
        "podman", "build", "--tag=shop_web", "--file=/p/Dockerfile", "--target=dev", "--network=host",
        "--build-arg=A=1", "--build-arg=GIVEN=yes", "--build-context=more=../more", "--label=l=v", ".",
    )  # fmt: skip
    assert build_argv(ComposeBuild(inline="FROM x"), "i", None)[3] == "--file=-"


@pytest.mark.parametrize(
    ("made", "again"),
    [
        ("podman run -d --name a i", "podman run -d --name a i"),
        ("podman run --name a i", "podman run --detach --name a i"),
        ("podman --log-level=error create --name a i run", "podman --log-level=error create --name a i run"),
    ],
)
def test_container_is_made_again_in_the_background(made: str, again: str) -> None:
    assert " ".join(make_again(made.split())) == again


def test_container_of_an_api_cannot_be_made_again() -> None:
    with pytest.raises(BuildError, match="not made by podman's command"):
        make_again(())


def test_services_that_do_not_start_say_what_the_host_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(command: Command) -> None:
        assert command.argv[:2] == ("podman-compose", "--file")
        raise ToolError("starting the services failed with exit code 125", output="error setting rlimit type 7")

    (tmp_path / "compose.yaml").write_text(
        "services: { web: { image: x, develop: { watch: [{ action: restart, path: a }] } } }\n"
    )
    monkeypatch.setattr(compose_watch.composed, "find_composed", lambda _project: ())
    monkeypatch.setattr(compose_watch, "find_tool", lambda name: name)
    monkeypatch.setattr(compose_watch, "run", fail)
    with pytest.raises(BuildError, match="exit code 125") as caught:
        compose_watch.watch_compose((tmp_path / "compose.yaml",), (), pytest.fail)
    assert "default_ulimits" in caught.value.hint
    assert caught.value.output == "error setting rlimit type 7"


def test_containers_that_depend_on_a_replaced_one_are_replaced_after_it() -> None:
    def container(name: str, *needs: str) -> ComposedContainer:
        return ComposedContainer(id=name, name=name, service=name, image="i", running=True, argv=(), needs=needs)

    every = (container("edge", "web", "proxy"), container("proxy", "web"), container("web", "db"), container("db"))
    assert [one.name for one in find_dependents([every[2]], every)] == ["web", "proxy", "edge"]


def test_file_that_cannot_be_read_is_named_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match=r"compose\.yaml: cannot be read: No such file or directory$"):
        load_compose([tmp_path / "compose.yaml"])
    (tmp_path / "compose.yaml").write_bytes(b"\xff")
    with pytest.raises(DefinitionError, match=r"compose\.yaml: not UTF-8 text$"):
        load_compose([tmp_path / "compose.yaml"])
