"""The JSON Schema of stage files, which editors use, agrees with the parser."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import jsonschema
import pytest
from test_stage import BAD, FULL, SAY

from buildkit.declare.stage_file import stage_schema

ROOT = Path(__file__).resolve().parents[2]
STAGES = sorted(ROOT.glob("stages/*/stage.toml"))
VALIDATOR = jsonschema.Draft202012Validator(stage_schema())

# what a schema would have to compute: folders that are reserved, numbers inside of strings, one item against another
READER_ONLY = {
    "models in /tmp",
    "files below /lib",
    "a high port",
    "a shell that ends a line of passwd",
    "two accounts of one id",
    "two accounts of one name",
}


def test_stage_schema_is_a_valid_json_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(stage_schema())


def test_committed_schema_matches_the_parser() -> None:
    text = json.dumps(stage_schema(), indent=2) + "\n"
    assert (ROOT / "docs" / "stage.schema.json").read_text("utf-8") == text, (
        "run: nox -s schema -- docs/stage.schema.json"
    )


@pytest.mark.parametrize("path", STAGES, ids=lambda path: path.parent.name)
def test_every_stage_of_the_repository_is_valid_and_names_the_schema(path: Path) -> None:
    text = path.read_text("utf-8")
    VALIDATOR.validate(tomllib.loads(text))
    named = text.splitlines()[0].removeprefix("#:schema ")
    assert (path.parent / named).resolve() == ROOT / "docs" / "stage.schema.json"


def test_repository_has_these_stages() -> None:
    assert {path.parent.name for path in STAGES} == {
        "base", "builder", "wheels", "ml-deps", "clients", "models", "runtime", "development", "hardened", "redis",
        "postgres", "proxy", "triton",
    }  # fmt: skip


def test_schema_accepts_what_the_parser_accepts() -> None:
    VALIDATOR.validate(tomllib.loads(FULL))
    VALIDATOR.validate(tomllib.loads(SAY))


@pytest.mark.parametrize("case", BAD)
def test_schema_refuses_what_the_parser_refuses(case: str) -> None:
    assert VALIDATOR.is_valid(tomllib.loads(BAD[case][0])) is (case in READER_ONLY)


def test_every_schema_key_has_a_description() -> None:
    silent: list[str] = []

    def visit(schema: object, path: str) -> None:
        if isinstance(schema, dict):
            for key, value in schema.get("properties", {}).items():
                if not value.get("description"):
                    silent.append(f"{path}.{key}")
                visit(value, f"{path}.{key}")
            visit(schema.get("items"), path)

    visit(stage_schema(), "")
    assert not silent
