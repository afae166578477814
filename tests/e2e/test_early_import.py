"""Lower layers are imported while others are built; a failed build leaves the last early import to the next."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.e2e.tinyproject import SLOW, SessionResult, Tiny, one_error

pytestmark = [pytest.mark.tools, pytest.mark.usefixtures("imports")]

_EAGER = SLOW + "from buildkit.build import preimport; preimport.MIN_IMPORT_BYTES = 1; "
_FORGETFUL = _EAGER + "from buildkit.tools import storage; kept, storage.remove_image = storage.remove_image, print; "


def test_concurrent_early_imports_do_not_hinder_each_other(tiny: Tiny) -> None:
    """One build may remove its early import while another uses the same layers."""
    with tiny.after(_EAGER):
        children = [tiny.start(stage) for stage in ("app", "app", "deps", "app")]
        texts = [child.communicate(timeout=120)[0] for child in children]
    assert [child.returncode for child in children] == [0, 0, 0, 0], texts
    assert any("import  app: " in text for text in texts)
    assert tiny.images().keys() == {"localhost/tiny/app:latest", "localhost/tiny/deps:latest"}
    assert tiny.left_over() == []
    assert tiny.run_image("app", "/bin/sh", "-c", "echo it runs") == "it runs\n"


def early_lines(ended: SessionResult) -> list[str]:
    return [line for line in ended.text.splitlines() if "import  app: " in line]


def test_early_import_gives_the_same_image_and_leaves_nothing_else(make_tiny: Callable[[], Tiny]) -> None:
    eager, patient = make_tiny(), make_tiny()
    with eager.after(_EAGER):
        ended = eager.run("build-app")
    assert ended.code == 0, ended.text
    assert re.search("app: [1-8] of 9 layers", early_lines(ended)[0]), ended.text  # as many as are packed by then
    built = patient.build("app")
    assert not early_lines(built)
    assert ended.report
    assert built.report
    assert ended.report["digest"] == built.report["digest"]
    assert ended.report["bytes"]["imported"] == built.report["bytes"]["imported"] > 0
    assert eager.images() == patient.images()
    assert eager.left_over() == []
    assert eager.run_image("app", "/bin/sh", "-c", "echo it runs") == "it runs\n"
    with eager.after(_EAGER):
        again = eager.run("build-app")
    assert again.code == 0
    assert not early_lines(again)


def test_what_a_failed_build_imported_is_kept_for_the_next(tiny: Tiny) -> None:
    with tiny.after(_EAGER):
        ended = tiny.run("build-app", PIP_FIND_LINKS="/nowhere")
        assert "no index and no find-links has beta" in one_error(ended, 1)
        assert early_lines(ended), ended.text
        assert tiny.run("build-app", PIP_FIND_LINKS="/nowhere").code == 1
    assert len(tiny.tool("buildah", "images", "--quiet").split()) == 1, "the last one"
    with tiny.after(_EAGER):
        built = tiny.run("build-app")
    assert built.code == 0, built.text
    assert tiny.images().keys() == {"localhost/tiny/app:latest"}
    assert tiny.left_over() == list(tiny.cache.glob("boxes/*")) == []


def test_gc_removes_early_imports_of_a_killed_build(tiny: Tiny) -> None:
    with tiny.after(_FORGETFUL):
        ended = tiny.run("build-app")
    assert ended.code == 0, ended.text
    named = {"localhost/tiny/app:latest"}
    assert tiny.images().keys() > named
    collected = tiny.run("cache", "gc")
    assert collected.code == 0, collected.text
    assert tiny.images().keys() == named
    assert tiny.run_image("app", "/bin/sh", "-c", "echo it runs") == "it runs\n"
