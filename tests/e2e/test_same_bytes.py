"""Digests are the same on every host, and concurrent builds build each layer once."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable

import pytest

from tests.e2e.tinyproject import SessionResult, Tiny

pytestmark = pytest.mark.tools

_STRANGE = {
    "TZ": "Asia/Kathmandu",
    "LANG": "tr_TR.UTF-8",
    "LC_ALL": "C",
    "PYTHONHASHSEED": "7",
    "SOURCE_DATE_EPOCH": "1",
}


def test_digests_do_not_depend_on_folder_umask_time_zone_or_locale(make_tiny: Callable[[], Tiny]) -> None:
    one, other = make_tiny(), make_tiny()
    deep = other.folder / "some where/deeper"
    deep.mkdir(parents=True)
    shutil.copytree(other.project, deep / "prøject", symlinks=True)
    shutil.rmtree(other.project)
    other.project = deep / "prøject"
    for path in other.project.rglob("*"):
        if ".git" not in path.parts:
            os.utime(path, (1_000_000, 1_000_000))
            path.chmod(0o700 if path.is_dir() else 0o600)
    before = os.umask(0o077)
    try:
        strange = other.build("tools", "--jobs", "1", **_STRANGE)
    finally:
        os.umask(before)
    plain = one.build("tools")
    assert strange.digests() == plain.digests()
    assert strange.report["digest"] == plain.report["digest"]
    assert keys(strange) == keys(plain)
    assert one.inspect("tools")["Id"] == other.inspect("tools")["Id"]


def test_build_from_an_empty_cache_has_the_same_digests(tiny: Tiny) -> None:
    first = tiny.build("tools")
    shutil.rmtree(tiny.cache)
    tiny.tool("buildah", "rmi", "--all", "--force")
    again = tiny.build("tools")
    assert len(again.built()) == len(again.report["layers"])
    assert again.report["digest"] == first.report["digest"]


@pytest.mark.xfail(reason="buildah's own mount targets (etc/hostname, run) reach the layer, by isolation")
def test_step_layer_does_not_depend_on_the_isolation(make_tiny: Callable[[], Tiny]) -> None:
    one, other = make_tiny(), make_tiny()
    assert one.build("tools").digests() == other.build("tools", BUILDAH_ISOLATION="chroot").digests()


def test_only_the_executable_bit_of_a_mode_counts(tiny: Tiny) -> None:
    first = tiny.build("app", "--no-import")
    script = tiny.project / "stages/app/app/main.sh"
    script.chmod(0o640)
    assert tiny.build("app", "--no-import").digests() == first.digests()
    script.chmod(0o755)
    assert tiny.build("app", "--no-import").built() == {"app/app": "stages/app/app/main.sh: file → executable"}


def test_two_concurrent_builds_build_each_layer_once(tiny: Tiny) -> None:
    ended = at_once(tiny, "tools", 2)
    built = [name for one in ended for name in one.built()]
    assert sorted(built) == sorted(layer["name"] for layer in ended[0].report["layers"])
    assert ended[0].digests() == ended[1].digests()
    assert ended[0].report["digest"] == ended[1].report["digest"]
    assert tiny.run_image("tools") == "hello from /app\n"
    assert tiny.left_over() == []


def test_concurrent_builds_of_other_stages_share_layers_in_progress(tiny: Tiny) -> None:
    first, second = at_once(tiny, "app", 1, "tools")
    built = [*first.built(), *second.built()]
    assert len(built) == len(set(built))
    assert tiny.left_over() == []


def at_once(tiny: Tiny, stage: str, count: int, *more: str) -> list[SessionResult]:
    """Several builds started together, each of which must work."""
    stages = [stage] * count + list(more)
    files = [tiny.folder / f"report-{number}.json" for number in range(len(stages))]
    children = [tiny.start(name, "--json", str(file)) for name, file in zip(stages, files, strict=True)]
    texts = [child.communicate(timeout=120)[0] for child in children]
    codes = [child.returncode for child in children]
    assert codes == [0] * len(children), "\n".join(texts)
    return [
        SessionResult(code=0, text=text, report=json.loads(file.read_text()))
        for text, file in zip(texts, files, strict=True)
    ]


def keys(ended: SessionResult) -> dict[str, str]:
    """The key of every layer by name."""
    assert ended.report is not None
    return {layer["name"]: layer["key"] for layer in ended.report["layers"]}
