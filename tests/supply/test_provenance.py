"""The provenance predicate: valid by in-toto's own types, reproducible, and without credentials."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
from in_toto_attestation.v1 import statement_pb2

from buildkit.digest import DiffId, Digest, Key
from buildkit.layers.tar.member import Compression
from buildkit.oci.blob import Blob, LayerResult
from buildkit.plan.compose import Composition
from buildkit.plan.spec import PackWheels, Spec
from buildkit.supply.provenance import (
    LOCAL_BUILDER,
    Builder,
    SourceCheckout,
    bare_url,
    find_builder,
    make_provenance,
    resolved_dependencies,
)
from buildkit.supply.sbom_agreement import check_provenance
from buildkit.supply.statement import PROVENANCE, Statement, parse_statement, render_statement
from tests.plan.planfakes import composer, sdist

BUILDER = Builder(id=LOCAL_BUILDER, version="1.0")
SOURCE = SourceCheckout(commit="a" * 40, dirty=False, url="https://me:hush@example.org/x.git?token=hush#y")


def made_of(composition: Composition) -> dict[Key, LayerResult]:
    def blob(spec: Spec) -> Blob:
        number = spec.key.hex.encode()
        return Blob(
            digest=Digest.of(b"blob" + number),
            diff_id=DiffId.of(b"tar" + number),
            size=1,
            unpacked=1,
            compression=Compression.ZSTD,
        )

    return {spec.key: LayerResult(blobs=(blob(spec),)) for spec in composition.specs}


@pytest.fixture(scope="module")
def runtime() -> Composition:
    return composer().compose("runtime")


@pytest.fixture(scope="module")
def tools() -> tuple[Spec, ...]:
    return composer().builder.specs


def predicate(runtime: Composition, tools: tuple[Spec, ...]) -> dict[str, Any]:
    return make_provenance(runtime, tools, made_of(runtime), SOURCE, BUILDER)


def test_provenance_is_valid_by_in_toto_types(runtime: Composition, tools: tuple[Spec, ...]) -> None:
    written = Statement(
        subjects=(("localhost:5000/x", Digest.of(b"image")),),
        predicate_type=PROVENANCE,
        predicate=predicate(runtime, tools),
    )
    value = json.loads(render_statement(written))
    statement = ParseDict(value, statement_pb2.Statement())  # fails for what the schema does not know
    assert statement.subject[0].digest["sha256"] == Digest.of(b"image").hex
    message = ParseDict(value["predicate"], provenance_pb2.Provenance())
    assert message.build_definition.build_type.startswith("https://")
    assert message.run_details.builder.id == LOCAL_BUILDER
    for one in (*message.build_definition.resolved_dependencies, *message.run_details.byproducts):
        assert one.uri or one.digest or one.content  # a resource descriptor has one of them
    assert parse_statement(render_statement(written)) == written


def test_provenance_has_every_recipe_under_its_key(runtime: Composition, tools: tuple[Spec, ...]) -> None:
    found = predicate(runtime, tools)["runDetails"]["byproducts"]
    recipes = {one["digest"]["sha256"]: base64.b64decode(one["content"]) for one in found}
    assert all(hashlib.sha256(recipe).hexdigest() == key for key, recipe in recipes.items())
    assert {spec.key.hex for spec in (*runtime.specs, *tools)} <= recipes.keys()
    compiled = [one["name"] for one in found if one["annotations"]["kind"] == "compile"]
    assert compiled
    assert [one["name"] for one in found if "layers" in one["annotations"]] == [spec.name for spec in runtime.specs]


def test_provenance_has_every_pin_with_its_digest(runtime: Composition, tools: tuple[Spec, ...]) -> None:
    found = {one["name"]: one for one in predicate(runtime, tools)["buildDefinition"]["resolvedDependencies"]}
    assert found["checkout"]["digest"] == {"gitCommit": "a" * 40}
    kinds = {one["uri"].partition("/")[0] for one in found.values() if one.get("uri", "").startswith("pkg:")}
    assert kinds == {"pkg:deb", "pkg:pypi"}
    assert all(len(one["digest"]["sha256"]) == 64 for name, one in found.items() if name.endswith((".whl", ".tar.gz")))
    assert all("digest" in one for one in found.values() if not one.get("uri", "").startswith("pkg:deb/"))


def test_provenance_is_reproducible_and_has_no_credentials(runtime: Composition, tools: tuple[Spec, ...]) -> None:
    text = json.dumps(predicate(runtime, tools))
    again = composer()
    assert text == json.dumps(predicate(again.compose("runtime"), again.builder.specs))
    assert "hush" not in text
    assert f"git+https://example.org/x.git@{'a' * 40}" in text
    assert bare_url("https://u:p@h:1/a?b#c") == "https://h:1/a"
    assert bare_url("no url at all") == bare_url("https://[") == bare_url("//u@h/x") == ""


def test_provenance_has_the_build_arguments_that_were_used_by_stage(runtime: Composition) -> None:
    args = {"base": (("INDEX", "https://me:hush@example.org/x"),), "runtime": (("RELEASE", "2.0"),)}
    given = predicate(replace(runtime, args=args), ())["buildDefinition"]["externalParameters"]
    assert given["args"] == {"base": {"INDEX": "https://example.org/x"}, "runtime": {"RELEASE": "2.0"}}
    assert "args" not in predicate(runtime, ())["buildDefinition"]["externalParameters"]


def test_package_of_a_git_repository_is_named_by_its_commit(runtime: Composition) -> None:
    place = f"git+https://example.org/kit.git@{'b' * 40}#subdirectory=python"
    kit = replace(sdist("kit"), file="kit-b.tar", place=place)
    spec = next(spec for spec in runtime.specs if isinstance(spec.work, PackWheels))
    one = replace(runtime, root=(), layers=(replace(spec, work=PackWheels(wheels=(kit,))),))
    (found,) = resolved_dependencies(one, ())
    assert found["digest"]["gitCommit"] == "b" * 40
    assert found["uri"] == f"pkg:pypi/kit@1.0?vcs_url=git%2Bhttps://example.org/kit.git%40{'b' * 40}"


def test_builder_is_read_from_the_ci_environment() -> None:
    github = {
        "GITHUB_ACTIONS": "true",
        "GITHUB_SERVER_URL": "https://github.example",
        "GITHUB_REPOSITORY": "me/app",
        "GITHUB_WORKFLOW_REF": "me/app/.github/workflows/x.yml@refs/heads/main",
        "GITHUB_RUN_ID": "7",
        "GITHUB_RUN_ATTEMPT": "2",
    }
    assert find_builder(github, "1") == Builder(
        id="https://github.example/me/app/.github/workflows/x.yml@refs/heads/main",
        version="1",
        run="https://github.example/me/app/actions/runs/7/attempts/2",
    )
    gitlab = {
        "GITLAB_CI": "true",
        "CI_PROJECT_URL": "https://gitlab.example/me/app",
        "CI_RUNNER_ID": "3",
        "CI_JOB_URL": "https://x:y@gitlab.example/me/app/-/jobs/9",
    }
    assert find_builder(gitlab, "1") == Builder(
        id="https://gitlab.example/me/app/-/runners/3", version="1", run="https://gitlab.example/me/app/-/jobs/9"
    )
    assert find_builder({}, "1") == Builder(id=LOCAL_BUILDER, version="1")


def test_provenance_disagreement_is_named(runtime: Composition, tools: tuple[Spec, ...]) -> None:
    layers = [(blob.digest, blob.diff_id) for one in made_of(runtime).values() for blob in one.blobs]

    def check(change: Any) -> str:
        changed = predicate(runtime, tools)
        change(changed)
        return check_provenance(changed, runtime, tools, layers)

    assert check(lambda changed: None) == ""
    assert check(lambda changed: changed["buildDefinition"]["externalParameters"].update(commit="b" * 40)) == ""
    assert "stage `other`" in check(
        lambda changed: changed["buildDefinition"]["externalParameters"].update(stage="other")
    )
    assert "not written by buildkit" in check(lambda changed: changed["buildDefinition"].update(buildType="x"))
    assert "lacks the recipe" in check(lambda changed: changed["runDetails"]["byproducts"].pop(0))
    assert "disagrees with the locks" in check(lambda changed: changed["buildDefinition"]["resolvedDependencies"].pop())
    assert "other layers than" in check(
        lambda changed: changed["runDetails"]["byproducts"][0]["annotations"].pop("layers")
    )
    for path in (("runDetails", "byproducts"), ("buildDefinition", "resolvedDependencies")):
        # a reader may take either of two entries with one name
        first = predicate(runtime, tools)[path[0]][path[1]][0]
        for double in (first, {**first, "content": "other"}):
            assert " twice" in check(
                lambda changed, path=path, double=double: changed[path[0]][path[1]].insert(0, double)
            )
    for nonsense in (None, 1, "x", [1], {"name": []}):
        for place in ("buildDefinition", "runDetails"):
            assert check(lambda changed, place=place, value=nonsense: changed.update({place: value})).startswith(
                "it cannot"
            )
        assert check(lambda changed, value=nonsense: changed["runDetails"].update(byproducts=[value]))
        assert check(lambda changed, value=nonsense: changed["buildDefinition"].update(resolvedDependencies=[value]))
    assert check_provenance(predicate(runtime, tools), runtime, tools, layers[::-1])


def test_provenance_needs_neither_disk_nor_clock(
    runtime: Composition, tools: tuple[Spec, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = predicate(runtime, tools)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.time", lambda: 0.0)
    assert predicate(runtime, tools) == before
