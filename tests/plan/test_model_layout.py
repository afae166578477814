"""Where files of models lie: in folders of their own, and in the cache of a hub's library, which finds them offline."""

import json
import os
import subprocess
import sys
import tarfile
from dataclasses import replace

import pytest

from buildkit.digest import FileHash
from buildkit.errors import DefinitionError
from buildkit.layers.models import model_members, snapshot_members
from buildkit.layers.tar.member import Compression
from buildkit.layers.tar.writer import write_layer
from buildkit.locks.model_source import parse_model_source
from buildkit.locks.models_lock import (
    ModelsLock,
    parse_models_file,
    parse_models_lock,
    render_models_lock,
    request_hash,
)
from buildkit.locks.pins import Model, ModelFile
from buildkit.plan.model_layout import hub_environment, pack_model, snapshot_links, snapshot_recipe, snapshot_refs

COMMIT = "c3f4811d02d91c226b84c0bc0a71f88823ff288c"
CONTENTS = {"config.json": b'{"a": 1}', "sub/same.json": b'{"a": 1}', "model.safetensors": b"weights"}
LARGE = 9 << 20


def make_model(**fields):
    files = tuple(
        ModelFile(path=path, sha256=FileHash.of(data), size=len(data), source="") for path, data in CONTENTS.items()
    )
    model = Model(name="m", version=COMMIT, source=parse_model_source("hf:org/name"), license="", files=files)
    return replace(model, **{"layout": "hf-cache", "revision": "v1.0", **fields})


def test_a_plain_model_has_the_folder_of_its_name_or_the_one_it_asks_for():
    for target, folder in (("", "/models/m"), ("/opt/voice", "/opt/voice")):
        ((name, work),) = pack_model(make_model(layout="plain", target=target), "/models")
        assert (name, work.target, work.snapshot) == ("m", folder, None)
        assert [work.place(file) for file in work.files] == ["config.json", "model.safetensors", "sub/same.json"]


def test_a_large_blob_is_one_layer_for_all_commits_and_names_of_it():
    sizes = {"model.safetensors": LARGE, "config.json": 8, "sub/same.json": LARGE}
    files = tuple(replace(file, size=sizes[file.path]) for file in make_model().files)
    works = dict(pack_model(make_model(files=files), "/models"))
    assert list(works) == ["m/model.safetensors", "m"] or list(works) == ["m/config.json", "m/model.safetensors", "m"]
    other = dict(pack_model(make_model(files=files, version="1" * 40, name="n"), "/models"))
    (blob,), (same,) = works["m/model.safetensors"].files, other["n/model.safetensors"].files
    assert (
        works["m/model.safetensors"].place(blob)
        == other["n/model.safetensors"].place(same)
        == f"blobs/{blob.sha256.hex}"
    )
    assert works["m/model.safetensors"].target == "/models/hub/models--org--name" == other["n/model.safetensors"].target
    assert {work.snapshot for name, work in works.items() if "/" in name} == {None}


LIBRARY = """
import sys
from huggingface_hub import hf_hub_download, snapshot_download
for revision in (None, "main", "v1.0", sys.argv[1]):
    folder = snapshot_download("org/name", revision=revision)
    for path in ("config.json", "sub/same.json", "model.safetensors"):
        print(path, open(hf_hub_download("org/name", path, revision=revision)).read())
"""


def test_the_hubs_own_library_finds_every_file_offline_by_any_name(tmp_path):
    model = make_model()
    ((_, work),) = pack_model(model, "/models")
    links, refs = snapshot_links(work.snapshot), snapshot_refs(work.snapshot)
    files = model_members(
        replace(model, files=work.files), lambda file: iter((CONTENTS[file.path],)), work.target, work.place
    )
    members = sorted((*files, *snapshot_members(work.target, links, refs)), key=lambda member: member.path)
    with (tmp_path / "layer.tar").open("wb") as out:
        write_layer(iter(members), out, Compression.NONE)
    with tarfile.open(tmp_path / "layer.tar") as layer:
        layer.extractall(tmp_path / "image", filter="data")
    env = hub_environment([work], {})
    assert env == {"HF_HUB_CACHE": "/models/hub", "HF_HUB_OFFLINE": "1"}
    env = {**os.environ, **env, "HF_HUB_CACHE": f"{tmp_path}/image/models/hub"}
    found = subprocess.run((sys.executable, "-c", LIBRARY, COMMIT), env=env, check=True, capture_output=True, text=True)
    assert found.stdout.splitlines() == [f"{path} {data.decode()}" for path, data in CONTENTS.items()] * 4


def test_programs_have_one_cache_and_a_repository_has_one_main():
    first, second = (work for name in "ab" for _, work in pack_model(make_model(name=name), "/models"))
    with pytest.raises(DefinitionError, match="`a` and `b` are one repository in one hub cache"):
        hub_environment([first, second], {})
    elsewhere = replace(second, target="/other/models--org--name")
    with pytest.raises(DefinitionError, match="`a` and `b` are in different hub caches"):
        hub_environment([first, elsewhere], {})
    assert "HF_HUB_CACHE" in hub_environment([first, elsewhere], {"HF_HUB_CACHE": "/other"})


def test_recipes_hold_the_names_of_a_snapshot():
    ((_, work),) = pack_model(make_model(), "/models")
    assert json.loads(json.dumps(snapshot_recipe(work.snapshot))) == {
        "commit": COMMIT,
        "refs": ["main", "v1.0"],
        "files": sorted([path, FileHash.of(data).hex] for path, data in CONTENTS.items()),
    }


TEXT = '[[model]]\nname = "m"\nsource = "hf:org/name"\nrevision = "v1.0"\n'


def test_another_place_needs_no_other_files_and_is_in_the_lock():
    (plain,) = parse_models_file(TEXT, "x").models
    (placed,) = parse_models_file(f'{TEXT}layout = "hf-cache"\ntarget = "/hub/"\n', "x").models
    assert request_hash(plain) == request_hash(placed)
    model = make_model(layout="plain", revision="")
    moved = placed.place(model)
    assert (moved.layout, moved.target, moved.revision) == ("hf-cache", "/hub", "v1.0")
    assert plain.place(moved) == model
    for one in (model, moved):
        lock = ModelsLock(inputs=FileHash.of(b""), models=(one,), requests=(request_hash(plain),))
        text = render_models_lock(lock)
        assert parse_models_lock(text, "x") == lock
        assert ("layout" in text) == (one is moved)
    for wrong in ('layout = "flat"', 'target = "opt"', 'target = "/opt/../etc"'):
        with pytest.raises(DefinitionError):
            parse_models_file(f"{TEXT}{wrong}\n", "x")
    with pytest.raises(DefinitionError, match="is for models of a hub"):
        parse_models_file('[[model]]\nname = "m"\nsource = "path:x"\nlayout = "hf-cache"\n', "x")
    for was, hostile in ((COMMIT, "../../etc"), ("v1.0", "../../../etc/x"), ("hf:org/name", "path:x")):
        with pytest.raises(DefinitionError):
            parse_models_lock(text.replace(f'"{was}"', f'"{hostile}"'), "x")
