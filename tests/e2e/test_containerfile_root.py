"""A Containerfile as a root: built once, keyed by what it reads, taken over as any root, and everything else on top."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.e2e.tinyproject import Tiny

pytestmark = pytest.mark.tools

_FILE = "docker/base.Containerfile"
_TEXT = """ARG BASE
FROM scratch AS seed
COPY docker/seed.txt /seed.txt

FROM ${BASE} AS final
ARG FLAVOUR=plain
COPY --from=seed /seed.txt /opt/seed.txt
COPY docker/conf /opt/conf
RUN [ "$(id -u)" = 1234 ]
USER 0
RUN --mount=type=secret,id=token echo "$FLAVOUR" > /opt/flavour; [ -s /run/secrets/token ]
ENV FROM_FILE=yes
ENTRYPOINT ["/bin/sh", "-c"]
HEALTHCHECK CMD ["/bin/sh", "-c", "exit 0"]

FROM final AS unused
RUN exit 1
"""


@pytest.fixture
def based(tiny: Tiny) -> Tiny:
    """The tiny project with its root moved into a Containerfile."""
    image = re.search(r'image = "(.*)@', (tiny.project / "stages/base/stage.toml").read_text())
    assert image is not None
    tiny.write(_FILE, _TEXT)
    tiny.write("docker/seed.txt", "seed\n")
    tiny.write("docker/conf/a.ini", "a=1\n")
    tiny.write("docker/conf/secret.key", "do not copy\n")
    tiny.write(".dockerignore", "**/*.key\n")
    tiny.write(
        "stages/base/stage.toml",
        f'summary = "from a Containerfile"\n[root]\ncontainerfile = "{_FILE}"\ntarget = "final"\n'
        f'args = {{ BASE = "{image[1]}:latest", FLAVOUR = "sweet" }}\nsecrets = ["token"]\n',
    )
    tiny.env["BUILDKIT_SECRET_TOKEN"] = "a-long-enough-token"
    tiny.lock()
    tiny.git("add", ".")
    tiny.git("commit", "--quiet", "--message=A Containerfile")
    return tiny


def test_containerfile_is_a_root_like_any_other(based: Tiny, make_tiny: Callable[[], Tiny]) -> None:
    first = based.build("app")
    assert {"base/containerfile", "deps/bulk"} <= first.built().keys()
    shown = based.tool(
        "podman", "run", "--rm", "--network=none", "--entrypoint=/bin/sh", "localhost/tiny/app:latest", "-c",
        "cat /opt/seed.txt /opt/flavour /opt/conf/a.ini; echo $FROM_FILE $FROM_ROOT; ls /opt/conf",
    )  # fmt: skip
    assert shown == "seed\nsweet\na=1\nyes yes\na.ini\n"
    config = based.inspect("app")
    assert config["Config"]["Labels"]["from.root"] == "yes"
    assert "io.buildah.version" not in config["Config"]["Labels"]
    assert based.left_over() == []

    assert based.build("app").built() == {}
    based.write("docker/notes.txt", "nothing copies this\n")
    based.write("stages/app/app/main.sh", "echo other\n")
    based.git("add", ".")
    assert [name for name in based.build("app").built() if name.startswith("base/")] == []

    second = make_tiny()  # another place and cache, the same bytes
    locks = ("requirements/images.lock", ".dockerignore")
    for name in (_FILE, "docker/seed.txt", "docker/conf/a.ini", "stages/base/stage.toml", *locks):
        second.write(name, (based.project / name).read_text())
    second.env["BUILDKIT_SECRET_TOKEN"] = "another-long-token"
    second.git("add", ".")
    name = "base/containerfile"
    assert second.build("base").digests()[name] == first.digests()[name]

    based.write("docker/conf/a.ini", "a=2\n")
    changed = based.build("app")
    assert changed.built() == {name: "docker/conf/a.ini changed"}
    assert "containerfile changed" not in changed.text


def old_buildah(tiny: Tiny) -> str:
    """A PATH with a buildah of which nothing but the version is asked."""
    fake = tiny.project.parent / "old/buildah"
    fake.parent.mkdir()
    fake.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "buildah version 1.32.2 (image-spec 1.1.0)"\n')
    fake.chmod(0o755)
    return f"{fake.parent}:{tiny.env['PATH']}"


def test_bad_containerfile_is_one_message_with_its_line(based: Tiny) -> None:
    based.replace(_FILE, "docker/seed.txt /seed.txt", "docker/none.txt /seed.txt")
    assert f"{_FILE}:3: `docker/none.txt` is not in the context `.`" in based.refuse("base", code=2)
    based.replace(_FILE, "docker/none.txt", "docker/conf/secret.key")
    left_out = based.refuse("base", code=2)
    assert f"{_FILE}:3: `docker/conf/secret.key` is left out of the context: ignored, or not tracked" in left_out
    based.replace(_FILE, "docker/conf/secret.key", "../elsewhere")
    assert f"{_FILE}:3: `../elsewhere` lies outside the project" in based.refuse("base", code=2)
    based.replace("stages/base/stage.toml", "target =", 'context = "docker"\ntarget =')
    based.write(_FILE, "FROM scratch AS final\nARG BASE FLAVOUR\nCOPY ../stages/app /x\n")
    outside = based.refuse("base", code=2)
    assert f"{_FILE}:3: `../stages/app` lies outside the context `docker`" in outside
    assert 'set context = "." in [root]' in outside
    based.replace("stages/base/stage.toml", 'context = "docker"\n', "")
    based.write(_FILE, "FROM scratch AS final\nARG BASE FLAVOUR\nRUN <<END\ntrue\nEND\n")
    needs = based.refuse("base", code=1, PATH=old_buildah(based))
    assert f"{_FILE}:3: here-documents need buildah 1.33, and this machine has 1.32.2" in needs
    based.write(_FILE, "FROM scratch\nRUM true\n")
    assert f"{_FILE}:2: `RUM` is not an instruction" in based.refuse("base", code=2)
    based.write(_FILE, _TEXT)
    based.replace("stages/base/stage.toml", ":latest", ":other")
    unpinned = based.refuse("base", code=2)
    assert "requirements/images.lock: does not have 127." in unpinned
    assert "run: nox -s lock" in unpinned
    based.replace("stages/base/stage.toml", ":other", ":latest")
    based.replace("stages/base/stage.toml", 'target = "final"', 'target = "finel"')
    assert f"{_FILE}: there is no stage `finel`" in based.refuse("base", code=2)
    based.replace("stages/base/stage.toml", 'target = "finel"\n', "")
    failed = based.refuse("base", code=1)
    assert f"base/containerfile: {_FILE} could not be built" in failed
    assert "if a RUN needs the network, say `network = true` in [root]" in failed
    assert based.left_over() == []
