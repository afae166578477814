"""What a Containerfile takes from elsewhere: pinned images and files of its context, and what cannot be told."""

from __future__ import annotations

import pytest

from buildkit.build.containerfile_root import name_images
from buildkit.declare.containerfile_root import (
    ContainerfileInputs,
    ContainerfileRoot,
    find_containerfile_inputs,
    find_heredoc,
    matches,
)
from buildkit.declare.stage_file import parse_stage
from buildkit.errors import DefinitionError

TEXT = """# syntax=docker/dockerfile:1
ARG RELEASE=13
ARG PYTHON
FROM debian:${RELEASE} AS tools
RUN --mount=type=bind,source=scripts,target=/mnt sh /mnt/x.sh
FROM --platform=linux/amd64 python:$PYTHON
ARG MODE=fast
COPY --from=tools /a /a
COPY --from=ghcr.io/astral-sh/uv:1 /uv /bin/
COPY requirements.txt \\
     conf/*.ini /etc/app/
COPY <<EOF /etc/motd
hello
EOF
ADD ["assets", "/assets"]
ADD https://example.org/x.tar /x
RUN --mount=type=cache,target=/c true
FROM scratch AS last
COPY everything /
"""


def inputs(text: str = TEXT, *, network: bool = True, **settings: object) -> ContainerfileInputs:
    settings["network"] = network
    return find_containerfile_inputs(text, ContainerfileRoot(file="Containerfile", **settings))  # type: ignore[arg-type]


def test_images_and_sources_are_those_of_the_stages_up_to_the_target() -> None:
    found = inputs(target="1", args=(("PYTHON", "3.12"),))
    assert found.images == {
        "debian:${RELEASE}": "docker.io/library/debian:13",
        "python:$PYTHON": "docker.io/library/python:3.12",
        "ghcr.io/astral-sh/uv:1": "ghcr.io/astral-sh/uv:1",
    }
    assert found.base == "docker.io/library/python:3.12"
    assert [(source.pattern, source.line) for source in found.sources] == [
        ("scripts", 5), ("requirements.txt", 10), ("conf/*.ini", 10), ("assets", 15),
    ]  # fmt: skip
    assert not found.whole
    assert inputs(target="tools").base == "docker.io/library/debian:13"
    assert inputs(args=(("PYTHON", "3"),)).base == ""


def test_stage_that_stands_on_another_has_its_base() -> None:
    found = inputs("FROM a.example/x:1 AS one\nFROM one AS Two\nFROM two\nCOPY --from=0 /x /x\nCOPY $NAME /y\n")
    assert (found.base, found.images, found.whole) == ("a.example/x:1", {"a.example/x:1": "a.example/x:1"}, True)


@pytest.mark.parametrize(
    ("text", "settings", "what"),
    [
        (TEXT, {}, "Containerfile:6: FROM python:$PYTHON: PYTHON has no value"),
        (TEXT, {"target": "tool"}, "there is no stage `tool`"),
        (TEXT, {"args": (("PYTHONS", "3"),)}, "there is no ARG PYTHONS"),
        ("FROM x\nRUM x\n", {}, "Containerfile:2: `RUM` is not an instruction"),
        ("RUN x\n", {}, "Containerfile:1: RUN comes before the first FROM"),
        ("", {}, "there is no FROM"),
    ],
)
def test_file_that_cannot_be_told_is_refused_with_its_line(text: str, settings: dict[str, object], what: str) -> None:
    with pytest.raises(DefinitionError) as error:
        inputs(text, **settings)
    assert what in error.value.message


@pytest.mark.parametrize(
    ("line", "what", "hint"),
    [
        ("ADD https://example.org/x /x", "ADD fetches `https://example.org/x`", "copy a file of the repository, or"),
        ('ADD --checksum=sha256:0 ["a", "git@example.org:x.git", "/x"]', "ADD fetches `git@example.org:x.git`", "copy"),
        ("ADD ${SOURCE} /x", "ADD fetches what `${SOURCE}` names, if it is a URL", "write COPY for a file, or"),
        ("RUN --network=host true", "this RUN asks for a network", ""),
    ],
)
def test_root_without_network_fetches_nothing(line: str, what: str, hint: str) -> None:
    text = f"FROM scratch\nADD a /a\nCOPY $B /b\nRUN --network=none true\n{line}\n"
    assert inputs(text)
    with pytest.raises(DefinitionError) as error:
        inputs(text, network=False)
    assert error.value.message == f"Containerfile:5: {what}"
    assert error.value.hint.startswith(hint)
    assert error.value.hint.endswith("say `network = true` in [root]")


def test_here_documents_count_up_to_the_stage_that_is_built() -> None:
    text = "FROM scratch AS a\nRUN true\nFROM a AS b\nRUN one \\\n two\nRUN <<E\n<<F\nE\nCOPY <<G /g\nG\n"
    found = [find_heredoc(text, ContainerfileRoot(file="Containerfile", target=target)) for target in ("a", "b", "")]
    assert found == [0, 6, 6]


@pytest.mark.parametrize(
    ("mount", "refused", "hint"),
    [
        ("type=secret,id=token", "", ""),
        ("type=secret,target=/run/secrets/token", "", ""),
        ("type=secret,id=tok,required=false", "", ""),  # the command says that it can do without
        ("type=secret,id=$NAME", "", ""),
        ("type=cache,id=tok,target=/c", "", ""),
        ("type=secret,id=tok", "tok", 'list it in [root]: secrets = ["token", "tok"]'),
        ("id=tok,required,type=secret", "tok", 'list it in [root]: secrets = ["token", "tok"]'),
        ("type=secret,dst=/etc/tok", "tok", 'list it in [root]: secrets = ["token", "tok"]'),
        ("type=secret,id=TOK", "TOK", "name it by lower case letters, digits, `_` and `-`, and list it in [root]"),
    ],
)
def test_secret_that_the_root_does_not_list_is_refused_with_its_line(mount: str, refused: str, hint: str) -> None:
    text = f"FROM scratch AS a\nRUN --mount=type=secret,id=token \\\n  true\nRUN --mount={mount} true\n"
    text += "FROM scratch\nRUN --mount=type=secret,id=other true\n"
    if not refused:
        assert inputs(text, target="a", secrets=("token",)).base == ""
        return
    with pytest.raises(DefinitionError) as error:
        inputs(text, target="a", secrets=("token",))
    what = f"`secrets` in [root] does not list `{refused}`, which this RUN mounts"
    assert error.value.message == f"Containerfile:4: {what}"
    assert error.value.hint == hint


@pytest.mark.parametrize(
    ("path", "pattern", "fits"),
    [
        ("a/b.txt", ".", True), ("a/b.txt", "a", True), ("a/b.txt", "/a/", True), ("a/b.txt", "a/*.txt", True),
        ("a/b/c.txt", "a/*", True), ("a/b/c.txt", "*.txt", False), ("ab", "a", False), ("a.b", "a?b", True),
    ],
)  # fmt: skip
def test_sources_match_as_in_a_containerfile(path: str, pattern: str, fits: bool) -> None:
    assert matches(path, pattern) is fits


def test_images_are_named_as_they_are_in_local_storage() -> None:
    root = ContainerfileRoot(file="Containerfile")
    text = "FROM x:1 AS a\nfrom --platform=linux/amd64 x:1\nCOPY --from=y:2 /x:1 /\n"
    text += "RUN --mount=from=y:2,target=/m cat x:1\n"
    assert name_images(text, {"x:1": "localhost/p:r", "y:2": "localhost/q:r"}, root) == (
        "FROM localhost/p:r AS a\nfrom --platform=linux/amd64 localhost/p:r\nCOPY --from=localhost/q:r /x:1 /\n"
        "RUN --mount=from=localhost/q:r,target=/m cat x:1\n"
    )
    with pytest.raises(DefinitionError, match="`x:1` must stand on the line of its FROM"):
        name_images("FROM \\\n  x:1\n", {"x:1": "localhost/p:r"}, root)


@pytest.mark.parametrize(
    ("table", "what"),
    [
        ('containerfile = "x"\nsuite = "trixie"', "`root.suite`: has no effect on a Containerfile"),
        ('suite = "trixie"\npackages = "p"\ntarget = "x"', "`root.target`: has no effect without `containerfile`"),
        ('containerfile = "../x"', "`root.containerfile`: `../x` is not a path in the repository"),
    ],
)
def test_keys_that_do_not_go_together_are_reported(table: str, what: str) -> None:
    with pytest.raises(DefinitionError) as error:
        parse_stage(f'summary = "x"\n[root]\n{table}\n', name="base", file="stages/base/stage.toml")
    assert what in "\n".join(map(str, error.value.problems))
