"""Build arguments in a real build: the label and the step that use one change, and nothing else is built."""

from __future__ import annotations

import pytest

from tests.e2e.tinyproject import Tiny

pytestmark = pytest.mark.tools

STAGE = """
[args]
RELEASE = "1.0"
[[run]]
name = "release"
script = 'echo "$RELEASE" > /etc/release'
[[run]]
name = "other"
script = "touch /etc/other"
"""


def test_argument_reaches_label_and_step_and_builds_nothing_else(tiny: Tiny) -> None:
    stage = "stages/app/stage.toml"
    tiny.replace(
        stage, "[config]\n", f'{STAGE}[config]\nlabels = {{ release = "${{RELEASE}}", at = "${{GIT_COMMIT}}" }}\n'
    )
    tiny.git("commit", "--quiet", "--all", "--message=Arguments")
    first = tiny.build("app")
    assert tiny.run_image("app", "cat", "/etc/release") == "1.0\n"
    labels = tiny.inspect("app")["Labels"]
    assert labels["release"] == "1.0"
    assert len(labels["at"]) == 40
    second = tiny.build("app", "--arg", "RELEASE=2.0; id")
    assert tiny.run_image("app", "cat", "/etc/release") == "2.0; id\n"
    assert tiny.inspect("app")["Labels"]["release"] == "2.0; id"
    assert "app/release" in first.built()
    assert set(second.built()) == {"app/release", "app/other"}, "a step stands on the one below"
    message = tiny.refuse("app", "--arg", "RELEASES=3", code=2)
    assert "--arg RELEASES: no stage has this argument" in message
