"""Which files of an image are staged, and what its base is."""

from __future__ import annotations

from buildkit.declare.stage import Config, Copy
from buildkit.develop.staging import Staging, plan_staging
from buildkit.digest import FileHash
from buildkit.plan.compose import Composition
from buildkit.plan.spec import Kind, PackFiles, PackPrefix, Spec, Tree, TreeFile, make_recipe
from tests.stagegraphs import stage

BASE = Spec(
    name="prefix",
    kind=Kind.PREFIX,
    **dict(zip(("recipe", "key"), make_recipe("p"), strict=True)),
    work=PackPrefix(),
    history="",
)


def copy(target: str, source: str, **files: str) -> Spec:
    """Return the layer of a copy; the file called ``_`` is the source itself."""
    listed = tuple(
        TreeFile(path="." if name == "_" else name, sha256=FileHash.of(text.encode()), size=len(text))
        for name, text in files.items()
    )
    tree = Tree(path=source, files=listed)
    recipe, key = make_recipe("files", target=target, files=tree.listing())
    work = PackFiles(tree=tree, copy=Copy(source=source, target=target))
    return Spec(name=target, kind=Kind.FILES, recipe=recipe, key=key, work=work, history="")


def plan(*layers: Spec, occupied: str = "", config: Config | None = None) -> Staging:
    composition = Composition(stage=stage("app"), root=(), layers=(BASE, *layers), config=config or Config())
    return plan_staging(composition, lambda folder: folder == occupied)


def sources(staging: Staging) -> dict[str, dict[str, str]]:
    return {folder.target: {path: file.source for path, file in folder.files.items()} for folder in staging.folders}


def test_copies_below_another_are_staged_in_its_folder() -> None:
    staging = plan(
        copy("/app", "stages/a/app", main="1"), copy("/app/tests", "tests", t="2"), copy("/opt/x", "x", y="3")
    )
    assert sources(staging) == {
        "/app": {"main": "stages/a/app/main", "tests/t": "tests/t"},
        "/opt/x": {"y": "x/y"},
    }


def test_single_file_is_staged_with_its_folder_or_belongs_to_the_base() -> None:
    single = copy("/app/settings", "settings.toml", _="1")
    assert sources(plan(copy("/app", "app", main="1"), single)) == {
        "/app": {"main": "app/main", "settings": "settings.toml"}
    }
    assert sources(plan(single)) == {}
    assert plan(single).base != plan(copy("/app/settings", "settings.toml", _="2")).base


def test_contents_of_staged_files_are_no_part_of_the_base() -> None:
    first, second = (plan(copy("/app", "app", main=text)) for text in ("1", "2"))
    assert first.base == second.base
    assert first != second


def test_folder_that_other_layers_use_and_the_root_itself_are_not_staged() -> None:
    for target in ("/app", "/"):
        first, second = (plan(copy(target, "app", main=text), occupied="/app") for text in ("1", "2"))
        assert first.folders == ()
        assert first.base != second.base


def test_config_and_folders_are_part_of_the_base() -> None:
    app = copy("/app", "app", main="1")
    assert plan(app).base != plan(app, config=Config(user="1000")).base
    assert plan(app).base != plan(app, copy("/more", "more", x="1")).base
