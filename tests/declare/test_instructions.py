"""Containerfiles as instructions: what the Dockerfile reference says, with lines."""

from __future__ import annotations

import pytest

from buildkit.declare.instructions import Instruction, ParsedContainerfile, read_containerfile
from buildkit.errors import DefinitionError


def read(text: str) -> ParsedContainerfile:
    return read_containerfile(text, "Dockerfile")


def only(text: str) -> Instruction:
    ((instruction,),) = [stage.instructions for stage in read(f"FROM a\n{text}").stages]
    return instruction


def test_stages_have_names_bases_and_lines() -> None:
    found = read(
        "ARG TAG=3.12\nARG EMPTY\nFROM python:${TAG} AS base\nRUN a\n\n"
        "from --platform=linux/amd64 base as app\nUSER x\n"
    )
    assert found.arguments == (("TAG", "3.12"), ("EMPTY", ""))
    assert [(stage.base, stage.name, stage.line) for stage in found.stages] == [
        ("python:${TAG}", "base", 3),
        ("base", "app", 6),
    ]
    assert [[i.value for i in stage.instructions] for stage in found.stages] == [["a"], ["x"]]


def test_continued_lines_are_one_and_comments_between_them_are_dropped() -> None:
    found = only(
        "RUN apt-get update && \\\n  # tools\n\n  apt-get install -y \\\n    curl \\\n  && true\nUSER x".replace(
            "\nUSER x", ""
        )
    )
    assert found.value == "apt-get update && apt-get install -y curl && true"
    assert found.line == 2


def test_escape_directive_moves_continuation() -> None:
    found = read("# escape=`\nFROM a\nRUN x `\n  y\nCOPY C:\\ D:\\\n")
    assert [i.value for i in found.stages[0].instructions] == ["x y", "C:\\ D:\\"]


def test_hash_within_a_line_is_no_comment() -> None:
    assert only("RUN echo a # b").value == "echo a # b"


def test_flags_are_apart_from_the_value() -> None:
    found = only("COPY --from=build --chown=1:1 --link a b /c/")
    assert found.flags == (("from", "build"), ("chown", "1:1"), ("link", ""))
    assert found.value == "a b /c/"
    assert found.flag("from") == "build"
    assert found.flag("chmod") is None
    mount = only("RUN --mount=type=cache,target=/root/.cache pip install x --no-cache-dir")
    assert mount.flags == (("mount", "type=cache,target=/root/.cache"),)
    assert mount.value == "pip install x --no-cache-dir"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('CMD ["python", "-m", "app"]', ("python", "-m", "app")),
        ("CMD python -m app", None),
        ("CMD ['python']", None),
        ("CMD [1]", None),
        ("CMD " + "[" * 100_000, None),
    ],
)
def test_json_form(text: str, words: tuple[str, ...] | None) -> None:
    assert only(text).words == words


def test_heredocs_belong_to_their_instruction() -> None:
    found = read("FROM a\nRUN <<EOF cat && 3<<-'X' b\nUSER no\n\nEOF\n\tfrom here\n\tX\nCMD c\n").stages[0].instructions
    assert [i.name for i in found] == ["RUN", "CMD"]
    assert [(h.end, h.text, h.expands) for h in found[0].heredocs] == [
        ("EOF", "USER no\n\n", True),
        ("X", "from here\n", False),
    ]
    assert found[1].line == 8


@pytest.mark.parametrize("text", ["RUN a <<<b", "RUN echo $((1<<2))", "ENV A=<<EOF"])
def test_what_only_looks_like_a_heredoc(text: str) -> None:
    assert only(text).heredocs == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Dockerfile: there is no FROM"),
        ("RUN a\nFROM b", "Dockerfile:1: RUN comes before the first FROM"),
        ("FROM a\n\nINSTALL b", "Dockerfile:3: `INSTALL` is not an instruction"),
        ("FROM a b", "Dockerfile:1: `FROM a b` is not FROM IMAGE [AS NAME]"),
        ("FROM a\nRUN <<EOF\nb\n", "Dockerfile:2: the here-document EOF has no end"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_line(text: str, message: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        read(text)
    assert caught.value.message == message


def test_windows_lines_and_a_byte_order_mark() -> None:
    assert read("\ufeffFROM a\r\nRUN b \\\r\n c\r\n").stages[0].instructions[0].value == "b c"
