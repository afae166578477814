"""Builds whose wheels are packed by processes of their own: the same image, and nothing left after a stop."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.tinyproject import SLOW, Tiny, one_error

pytestmark = pytest.mark.tools

_APART = """import functools, os, sys
from buildkit.build import build_layers, wheel_packing
build_layers.MIN_PACKED_APART = 0
packs = wheel_packing.pack_wheels
@functools.wraps(packs)
def pack_wheels(*args):
    print("packed by", os.getpid(), file=sys.stderr, flush=True)
    return packs(*args)
wheel_packing.pack_wheels = pack_wheels
"""
# once, a process that has packed the heavy wheel changes its times
_TOUCHING = (
    _APART
    + """import os
from pathlib import Path
from buildkit.build import layer_writer
whole, wheel, done = layer_writer.write_layer, {wheel!r}, Path({done!r})
def write_layer(members, *args, **named):
    members = list(members)
    written = whole(members, *args, **named)
    if not done.exists() and any(member.path.endswith("bulk/data.bin") for member in members):
        done.touch()
        os.utime(wheel)
    return written
layer_writer.write_layer = write_layer
"""
)
_FAILING = _APART + "import signal; packs = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"


def packers(text: str) -> set[str]:
    return set(re.findall(r"packed by (\d+)", text))


def lives(pid: str) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_image_is_the_one_that_threads_pack(make_tiny: Callable[[], Tiny]) -> None:
    one, other = make_tiny(), make_tiny()
    plain = one.build("app")
    with other.after(_APART):
        apart = other.build("app")
    assert apart.report["digest"] == plain.report["digest"]
    assert apart.digests() == plain.digests()
    assert packers(apart.text)
    assert str(os.getpid()) not in packers(apart.text)
    assert not any(map(lives, packers(apart.text)))
    again = other.build("app")
    assert not again.built()


def test_pushed_layers_are_the_same(make_tiny: Callable[[], Tiny], registry: str) -> None:
    one, other = make_tiny(), make_tiny()
    plain = one.run("push-app", f"{registry}/apart/one:latest")
    with other.after(_APART):
        apart = other.run("push-app", f"{registry}/apart/other:latest")
    assert packers(apart.text), apart.text
    assert apart.report["digest"] == plain.report["digest"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stop_ends_the_processes_and_leaves_nothing(tiny: Tiny, number: signal.Signals) -> None:
    with tiny.after(SLOW + _APART):
        ended = tiny.interrupt("app", number, lambda: any(tiny.cache.glob("tmp/dir-*")) or any_tree(tiny))
    assert "interrupted" in one_error(ended, 130)
    assert tiny.left_over() == []
    assert not any_tree(tiny)
    assert not any(map(lives, packers(ended.text)))
    tiny.build("app")


def any_tree(tiny: Tiny) -> bool:
    """Return whether a tree is being written."""
    return any(tiny.store.glob("tmp/*"))


def test_wheel_of_a_folder_that_changed_meanwhile_is_packed_again(make_tiny: Callable[[], Tiny]) -> None:
    one, other = make_tiny(), make_tiny()
    wheel = other.folder / "links/bulk-1.0-py3-none-any.whl"
    with other.after(_TOUCHING.format(wheel=str(wheel), done=str(other.folder / "done"))):
        apart = other.build("app")
    assert f"{wheel} changed while it was read; planning again" in apart.text
    assert len(packers(apart.text)) > 1
    assert apart.report["digest"] == one.build("app").report["digest"]


def test_killed_process_is_one_clear_error(tiny: Tiny) -> None:
    with tiny.after(_FAILING):
        ended = tiny.run("build-app")
    assert ended.code == 1, ended.text
    assert "a process of this build was killed by SIGKILL" in ended.text
    assert "--jobs 1" in ended.text
    assert "Traceback" not in ended.text
    tiny.build("app")
