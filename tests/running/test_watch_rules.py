"""What changed files ask for."""

from __future__ import annotations

import pytest

from buildkit.declare.containerignore import parse_ignore_file
from buildkit.running.watch_rules import Action, Placed, Reaction, WatchRule, is_private, react

SYNC = WatchRule(service="web", path="src", action=Action.SYNC, target="/app/src", ignore=("node_modules", "*.md"))
REBUILD = WatchRule(service="web", path="package.json", action=Action.REBUILD)


def test_sync_places_files_below_the_target() -> None:
    assert react((SYNC, REBUILD), ["src/a/b.js", "docs/x", "srcs/x"]) == (
        Reaction(service="web", causes=("src/a/b.js",), sync=(Placed(path="src/a/b.js", target="/app/src/a/b.js"),)),
    )


def test_rule_of_a_file_has_the_target_of_the_file() -> None:
    rule = WatchRule(service="web", path="nginx.conf", action=Action.SYNC_RESTART, target="/etc/nginx/nginx.conf")
    (reaction,) = react((rule,), ["nginx.conf"])
    assert reaction.sync == (Placed(path="nginx.conf", target="/etc/nginx/nginx.conf"),)
    assert reaction.restart
    assert reaction.name == "sync+restart"


def test_ignore_is_relative_to_the_rule_and_as_in_containerignore() -> None:
    ignored = ["src/node_modules/x/y.js", "src/readme.md", "readme.md"]
    assert react((SYNC,), ignored) == ()
    assert react((SYNC,), ["src/deep/readme.md"])[0].causes == ("src/deep/readme.md",), "* stops at /"


def test_include_chooses() -> None:
    rule = WatchRule(service="web", path=".", action=Action.SYNC, target="/app", include=("**/*.py", "!tests"))
    (reaction,) = react((rule,), ["a.py", "b/c.py", "b/c.txt", "tests/d.py"])
    assert reaction.causes == ("a.py", "b/c.py")


def test_whole_project_is_a_path() -> None:
    rule = WatchRule(service="web", path=".", action=Action.SYNC, target="/")
    assert react((rule,), ["a/b"])[0].sync == (Placed(path="a/b", target="/a/b"),)


def test_rebuild_includes_everything_else_of_its_service_alone() -> None:
    other = WatchRule(service="worker", path="src", action=Action.RESTART)
    first, second = react((SYNC, REBUILD, other), ["src/a.js", "package.json"])
    assert first == Reaction(service="web", causes=("package.json", "src/a.js"), rebuild=True)
    assert first.name == "rebuild"
    assert (second.name, second.causes) == ("restart", ("src/a.js",))


def test_ten_thousand_changes_are_one_reaction() -> None:
    (reaction,) = react((SYNC, REBUILD), [f"src/{number}.js" for number in range(10_000)])
    assert len(reaction.sync) == 10_000
    assert reaction.name == "sync"


def test_what_the_ignore_file_leaves_out_asks_for_nothing() -> None:
    assert react((SYNC,), ["src/a.log", "src/b.js"], parse_ignore_file("**/*.log", "x"))[0].causes == ("src/b.js",)


@pytest.mark.parametrize(
    "path",
    [".git/index", "sub/.git", "src/4913", "src/.api.py.swp", "a/.#b.py", "a/#b.py#", "b.py~", "x.py___jb_tmp___",
     ".goutputstream-ABC"],
)  # fmt: skip
def test_files_of_git_and_editors_ask_for_nothing(path: str) -> None:
    assert is_private(path)
    rule = WatchRule(service="web", path=".", action=Action.RESTART)
    assert react((rule,), [path]) == ()


def test_git_ignore_and_hidden_files_are_files() -> None:
    assert not any(map(is_private, [".gitignore", ".env", ".github/x.yml", "a.swift"]))


def test_commands_of_several_files_run_once() -> None:
    rule = WatchRule(service="db", path="sql", action=Action.SYNC_EXEC, target="/sql", command=("psql", "-f", "/sql/x"))
    (reaction,) = react((rule,), ["sql/x", "sql/y"])
    assert reaction.commands == (("psql", "-f", "/sql/x"),)
    assert reaction.name == "sync+exec"
