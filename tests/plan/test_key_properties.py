"""Keys of whole projects from files on disk depend on their values, not on their formatting."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import keyinputs as inputs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keymutations import Mutate, expected
from projectdisk import Disk, Seen, compose_all
from projecttext import lay, render
from smallproject import File, Small, projects
from tomlstyles import Style

from buildkit.declare.project import SETTINGS
from buildkit.declare.schema import ListSchema, TableSchema, ValueSchema, WordOrTableSchema
from buildkit.declare.stage_schema import STAGE
from buildkit.locks import models_lock as modelslock
from buildkit.locks import wheels_lock as wheelslock
from buildkit.store.ledger import Ledger

SEEDS = st.integers(0, 1 << 32)
KINDS = {
    "stage": inputs.STAGES,
    "setting": inputs.PROJECT,
    "wheel": inputs.WHEELS,
    "models": inputs.MODELS,
    "file": inputs.FILES,
}
ANY = {f"{kind}: {name}": mutate for kind, named in KINDS.items() for name, mutate in named.items()}


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    made = Ledger(tmp_path_factory.mktemp("ledger") / "ledger.sqlite")
    yield made
    made.close()


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory, ledger: Ledger) -> Disk:
    return Disk(tmp_path_factory.mktemp("disk") / "project", ledger)


@settings(max_examples=40)
@given(projects(), SEEDS)
def test_keys_do_not_depend_on_how_a_project_is_written(disk: Disk, small: Small, seed: int) -> None:
    plain, other = disk.compose(small), disk.compose(small, Style(seed))
    assert other.keys == plain.keys
    assert other.images == plain.images


def check(disk: Disk, small: Small, mutate: Mutate, seed: int) -> None:
    """A mutation moves just the keys that it belongs to, and those that depend on them."""
    other = small.copy()
    belongs = mutate(other)
    before, after = disk.remember(small), disk.compose(other, Style(seed))
    were, are = set(before.keys.values()), set(after.keys.values())
    assert were - are == expected(belongs, before, after, small)
    assert are - were == expected(belongs, after, before, other)


@pytest.mark.parametrize("what", ANY)
@settings(max_examples=2)
@given(small=projects(), seed=SEEDS)
def test_change_of_a_project_changes_exactly_the_dependent_keys(disk: Disk, what: str, small: Small, seed: int) -> None:
    check(disk, small, ANY[what], seed)


@pytest.mark.parametrize("what", inputs.DEBIAN)
@settings(max_examples=2)
@given(small=projects(debian=True), seed=SEEDS)
def test_change_of_a_debian_root_changes_exactly_the_dependent_keys(
    disk: Disk, what: str, small: Small, seed: int
) -> None:
    check(disk, small, inputs.DEBIAN[what], seed)


@pytest.mark.parametrize("what", inputs.IMAGE)
@settings(max_examples=2)
@given(small=projects(debian=False), seed=SEEDS)
def test_change_of_a_registry_root_changes_exactly_the_dependent_keys(
    disk: Disk, what: str, small: Small, seed: int
) -> None:
    check(disk, small, inputs.IMAGE[what], seed)


def places(shape: ValueSchema, path: str = "") -> Iterator[str]:
    """Every place of a file that may hold something: ``root.user[].name``."""
    if isinstance(shape, TableSchema):
        for key, field in shape.fields.items():
            yield from places(field.value, f"{path}.{key}" if path else key)
    elif isinstance(shape, WordOrTableSchema):
        yield from places(shape.table, path)
    elif isinstance(shape, ListSchema):
        yield from places(shape.item, path + ("[]" if isinstance(shape.item, TableSchema) else ""))
    else:
        yield path


def test_every_field_of_every_file_is_classified_as_input_or_not() -> None:
    stages = inputs.named([*inputs.STAGES, *inputs.DEBIAN, *inputs.IMAGE])
    assert set(places(STAGE)) - stages == set()
    assert set(places(SETTINGS)) == inputs.named(inputs.PROJECT)
    assert set(places(modelslock._LOCK)) - inputs.named(inputs.MODELS) == set()
    assert wheelslock._KEYS - inputs.named(inputs.WHEELS) == set()


# what is about a file, but not in it


def touched(folder: Path, files: dict[str, File], seed: int) -> None:
    """Files as on another machine: other times, owners, permissions, and additional untracked files."""
    chance = random.Random(seed)
    for name, file in files.items():
        path = folder / name
        os.utime(path, (chance.randrange(1 << 31), chance.randrange(1 << 31)), follow_symlinks=False)
        if file.kind == "link":
            continue
        path.chmod(chance.choice([0o700, 0o755, 0o775] if file.kind == "exec" else [0o600, 0o644, 0o666]))
        if os.geteuid() == 0:
            os.chown(path, chance.randrange(1 << 16), chance.randrange(1 << 16))
    for parent in {path.parent for path in map(Path, files)}:
        (folder / parent).chmod(chance.choice([0o755, 0o777]))
        if parent == Path("weights"):
            continue  # whatever is in a model's folder belongs to the model
        (folder / parent / "untracked").write_text("x")
        (folder / parent / "listed.ignored").write_text("x")
        (folder / parent / "__pycache__").mkdir()
        (folder / parent / "__pycache__/x.pyc").write_text("x")


def track(folder: Path) -> None:
    for argv in (("init", "--quiet"), ("add", "--all", "--force")):
        subprocess.run(("git", *argv), cwd=folder, check=True, capture_output=True)
    (folder / ".git/info/exclude").write_text("*.ignored\n__pycache__\n")


@settings(max_examples=5)
@given(projects(), SEEDS)
def test_keys_do_not_depend_on_file_metadata(ledger: Ledger, small: Small, seed: int) -> None:
    with TemporaryDirectory() as one, TemporaryDirectory(prefix="é other $") as two:
        files = render(small, Style(0, plain=True))
        made = []
        for folder, names in ((Path(one), sorted(files)), (Path(two), sorted(files, reverse=True))):
            lay(folder, {name: files[name] for name in names})
            track(folder)
            made.append(folder)
        touched(made[1], files, seed)
        first, second = (Seen(compose_all(folder, ledger)) for folder in made)
        assert second.images == first.images


ELSEWHERE = """
import json, os, sys
os.umask(0o077)
from pathlib import Path
from buildkit.store.ledger import Ledger
from projectdisk import Seen, compose_all
seen = Seen(compose_all(Path(sys.argv[1]), Ledger(Path(sys.argv[2]))))
print(json.dumps({"keys": seen.keys, "order": [[s.name for s in c.specs] for c in seen.stages.values()]}))
"""


@settings(max_examples=2)
@given(projects(), SEEDS)
def test_keys_do_not_depend_on_the_host(disk: Disk, small: Small, seed: int) -> None:
    here = disk.compose(small)
    with TemporaryDirectory() as folder:
        env = {
            "PYTHONHASHSEED": str(seed % 1000),
            "PYTHONPATH": os.pathsep.join(sys.path),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PATH": os.environ["PATH"],
            "HOME": folder,
            "LC_ALL": "C",
            "TZ": "Asia/Kathmandu",
        }
        argv = (sys.executable, "-c", ELSEWHERE, str(disk.folder), f"{folder}/ledger.sqlite")
        done = subprocess.run(argv, env=env, cwd="/", check=True, stdout=subprocess.PIPE)
    order = [[spec.name for spec in composition.specs] for composition in here.stages.values()]
    assert json.loads(done.stdout) == {"keys": here.keys, "order": order}
