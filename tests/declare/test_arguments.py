"""Build arguments: where their values come from, what uses them, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from buildkit.declare.arguments import apply_arguments
from buildkit.declare.stage import Stage
from buildkit.declare.stage_file import parse_stage
from buildkit.errors import DefinitionError

APP = """
summary = "x"
from = "base"
[args]
VERSION = "1.0"
MODE = "plain"
[[run]]
script = "make $VERSION ${OTHER}"
[[run]]
script = "make ${BASE%x} $MODERN"
env = { OWN = "v${VERSION}" }
[[run]]
command = ["tool", "--mode=${MODE}", "$MODE"]
[config]
cmd = ["serve", "${MODE}", "${HOME}"]
entrypoint = ["tini", "--"]
env = { RELEASE = "${VERSION}-${BASE}" }
labels = { version = "${VERSION}", revision = "${GIT_COMMIT}", made = "${GIT_TIME}" }
"""
BASE = 'summary = "x"\n[root]\nsuite = "trixie"\npackages = "b.apt"\n[args]\nBASE = "b"\nMODE = "base"\n'
READY = {"GIT_COMMIT": "abc", "GIT_TIME": "2026-01-01T00:00:00Z"}


def stages(app: str = APP) -> dict[str, Stage]:
    texts = {"base": BASE, "app": app}
    return {name: parse_stage(text, name=name, file=f"stages/{name}/stage.toml") for name, text in texts.items()}


def applied(app: str = APP, given: Mapping[str, str] | None = None, env: Mapping[str, str] | None = None) -> Stage:
    return apply_arguments(stages(app), given or {}, env or {}, lambda: READY)["app"]


def test_defaults_are_used_in_labels_environment_commands_and_steps() -> None:
    app = applied()
    assert dict(app.config.labels) == {"version": "1.0", "revision": "abc", "made": "2026-01-01T00:00:00Z"}
    assert app.config.env == (("RELEASE", "1.0-b"),)
    assert app.config.cmd == ("serve", "plain", "${HOME}")
    first, second, third = app.run
    assert first.env == (("VERSION", "1.0"),), "the script is left as it is, and gets what it names"
    assert first.command[-1] == "make $VERSION ${OTHER}"
    assert second.env == (("BASE", "b"), ("OWN", "v1.0")), "$MODERN is not $MODE"
    assert third.command == ("tool", "--mode=plain", "$MODE")
    assert third.env == ()


def test_stage_keeps_the_values_that_it_used_and_no_other() -> None:
    unused = APP.replace('VERSION = "1.0"', 'VERSION = "1.0"\nUNUSED = "u"')
    used = applied(unused, given={"MODE": "m"}).used_args
    assert used == (("BASE", "b"), ("MODE", "m"), ("VERSION", "1.0")), "in labels, environment, commands and scripts"
    assert stages()["app"].used_args == ()


def test_command_line_wins_over_the_environment_and_that_over_the_default() -> None:
    env = {"BUILDKIT_ARG_VERSION": "2", "BUILDKIT_ARG_BASE": "c", "VERSION": "no", "BUILDKIT_ARG_FOREIGN": "x"}
    assert applied(env=env).config.env == (("RELEASE", "2-c"),)
    assert applied(env=env, given={"VERSION": "3"}).config.env == (("RELEASE", "3-c"),)


def test_value_is_never_shell_text() -> None:
    first = applied(given={"VERSION": "$(rm -rf /); '"}).run[0]
    assert first.command[-1] == "make $VERSION ${OTHER}"
    assert first.env == (("VERSION", "$(rm -rf /); '"),)


def test_stage_that_uses_no_argument_is_unchanged_whatever_its_value() -> None:
    before = stages()["base"]
    assert apply_arguments(stages(), {"BASE": "z", "VERSION": "9"}, {}, None)["base"] == before


def test_commit_is_asked_for_only_where_a_label_uses_it() -> None:
    plain = 'summary = "x"\n[args]\nA = "1"\n[config]\nlabels = { a = "${A}" }\n'
    apply_arguments(stages(plain), {}, {}, lambda: pytest.fail("git was asked"))
    assert apply_arguments(stages(), {}, {}, None)["app"].config.labels[-2:][0][1] == "${GIT_COMMIT}"


def test_unknown_argument_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(DefinitionError, match="--arg VERSIONS: no stage has this argument") as caught:
        applied(given={"VERSIONS": "2"})
    assert caught.value.hint == "did you mean `VERSION`?"


@pytest.mark.parametrize(
    ("text", "key", "what"),
    [
        ('[args]\nHF_TOKEN = ""', "args.HF_TOKEN", "a secret is no argument"),
        ('[args]\nGIT_COMMIT = ""', "args.GIT_COMMIT", "is the name of a value that is always there"),
        ('[config]\nenv = { A = "${GIT_TIME}" }', "config.env.A", "so only labels may use it"),
        ('[args]\nVERSION = ""\n[config]\nlabels = { a = "${VERSIONS}" }', "config.labels.a", "no argument `VERSIONS`"),
    ],
)
def test_wrong_arguments_of_a_stage_are_reported_at_their_key(text: str, key: str, what: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        applied(f'summary = "x"\n{text}\n')
    (problem,) = caught.value.problems
    assert (problem.file, problem.key) == ("stages/app/stage.toml", key)
    assert what in problem.what
