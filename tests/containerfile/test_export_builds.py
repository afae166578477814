"""Exports built by the real builders contain the same files as our own images."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from uv import find_uv_bin

from tests.containerfile.builders import Buildah, Builder, config_of, tree_of
from tests.containerfile.conftest import TOOLS
from tests.containerfile.noise import find_differences
from tests.e2e.conftest import new_tiny, short_folder
from tests.e2e.nativeproject import adopt_native, write_sdist
from tests.e2e.tinyproject import Tiny

pytestmark = [pytest.mark.tools, pytest.mark.network]

_HOSTILE = {
    "DOLLAR": "costs $5, not ${HOME} nor $(id)",
    "QUOTES": """it's "quoted" `so`""",
    "BACKSLASH": "C:\\new\\",
    "SPACES": "  two  spaces  ",
    "EMPTY": "",
    "HASH": "# no comment",
    "UMLAUT": "größe = 1 µm",
}
_SCRIPT = r"""
# a comment, and what looks like one in a here-document
mkdir -p /opt/hostile
cat > /opt/hostile/made <<'EOF'
# kept
    # kept, with its spaces
  "quoted" \ $HOME `id` \n
	after a tab, and an empty line

EOF
printf '%s\n' "$WORD" >> /opt/hostile/made
"""


@pytest.fixture(scope="module")
def hostile(template: Path, registry: str, links: Path) -> Iterator[Tiny]:
    """The tiny project's `tools`, with values that must be quoted, built by us, and exported."""
    tiny = new_tiny(template, registry, links)
    stage = "stages/tools/stage.toml"
    quoted = json.dumps(_HOSTILE["QUOTES"]), json.dumps(_HOSTILE["DOLLAR"])
    words = "\n".join(f"{name} = {json.dumps(value)}" for name, value in _HOSTILE.items())
    script = f"[[run]]\nname = \"hostile\"\nscript = '''{_SCRIPT}'''\nenv = {{ WORD = {quoted[0]} }}\n"
    config = f"""
[framework]
threads = "cgroup"
[config]
workdir = "/with space"
volumes = ["/data"]
ports = ["53/udp"]
cmd = ["/bin/sh", "-c", {quoted[0]}, {quoted[1]}, "two\\nlines"]
labels = {{ quotes = {quoted[0]}, dollar = {quoted[1]} }}
stop-signal = "SIGINT"
[config.env]
{words}
"""
    tiny.write(stage, (tiny.project / stage).read_text() + script + config)
    shutil.copytree(tiny.folder / "links", tiny.project / "wheels")
    assert tiny.build("tools").code == 0
    ended = tiny.run("export-containerfile", "tools", "--find-links", "wheels")
    assert ended.code == 0, ended.text
    yield tiny
    tiny.remove()


def test_exported_image_has_the_same_files_and_config(hostile: Tiny, builder: Builder) -> None:
    builder.build(hostile.project, "Podmanfile", "exported/tools", DEBIAN=TOOLS)
    image = "localhost/tiny/tools:latest"
    ours, theirs = tree_of(hostile, image), builder.tree("exported/tools")
    assert ours["opt/hostile/made"] == theirs["opt/hostile/made"]
    settings = "opt/venv/lib/python3.13/site-packages/xoe_runtime/settings.json"
    assert {"opt/tools/copy", "app/main.sh", "models/greeter/weights.txt", settings} <= theirs.keys()
    assert find_differences(ours, theirs) == {}
    config = config_of(hostile, image)
    assert _HOSTILE.items() <= config["Env"].items()
    assert builder.config("exported/tools") == config


def test_uv_and_pip_install_the_same_files(hostile: Tiny, workshop: Tiny) -> None:
    box = workshop.tool("buildah", "from", "scratch").strip()
    workshop.tool("buildah", "copy", "--quiet", box, find_uv_bin(), "/uv")
    workshop.tool("buildah", "commit", "--quiet", "--rm", box, "localhost/uv:latest")
    arguments = ("--find-links", "wheels", "--uv", "localhost/uv:latest", "--output", "Uvfile")
    ended = hostile.run("export-containerfile", "app", *arguments)
    assert ended.code == 0, ended.text
    builder = Buildah(workshop=workshop)
    builder.build(hostile.project, "Uvfile", "exported/uv", DEBIAN=TOOLS)
    hostile.build("app")
    assert find_differences(tree_of(hostile, "localhost/tiny/app:latest"), builder.tree("exported/uv")) == {}


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiny]:
    """A Debian root in which no script of a package ran, with wheels compiled from an sdist and from the repository."""
    folder = short_folder()
    wheels = folder / "project/wheels"
    tiny = Tiny(folder, links=wheels)
    adopt_native(tmp_path_factory, tiny, wheels)
    write_sdist(wheels)
    (tiny.project / "requirements/app.txt").unlink()  # it has the hash of another sdist
    stage = "stages/app/stage.toml"
    tiny.write(stage, (tiny.project / stage).read_text() + '\n[framework]\nthreads = "cgroup"\n')
    tiny.lock()
    assert tiny.build("app").code == 0
    ended = tiny.run("export-containerfile", "app", "--find-links", "wheels")
    assert ended.code == 0, ended.text
    yield tiny
    tiny.remove()


def test_debian_roots_and_compiled_wheels_are_the_same(native: Tiny, workshop: Tiny) -> None:
    builder = Buildah(workshop=workshop)
    builder.build(native.project, "Podmanfile", "exported/native", DEBIAN=TOOLS)
    code = "import fast, source_only as s, source_native as n; print(fast.add(40, 2), s.WORD, n.add(1, 1))"
    code += "\nimport os, xoe_runtime; xoe_runtime.apply(); print(os.environ['OMP_NUM_THREADS'])"
    run = ("podman", "run", "--rm", "--network=none", "--cpus=1")
    assert workshop.tool(*run, "exported/native", "/opt/venv/bin/python", "-c", code) == "42 sdist 2\n1\n"
    image = "localhost/tiny/app:latest"
    ours, theirs = tree_of(native, image), builder.tree("exported/native")
    assert (
        "opt/venv/lib/python3.13/site-packages/__pycache__/source_only.cpython-313.pyc" in ours.keys() & theirs.keys()
    )
    found = find_differences(ours, theirs)
    assert {path for path in found if not path.endswith(".so")} == set()  # compilers note where they ran
    assert builder.config("exported/native") == config_of(native, image)
