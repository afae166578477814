"""Models of registries: ModelPack, Docker's format and model images are locked by digest from a real registry."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from buildkit.digest import Digest, FileHash
from buildkit.errors import BuildError, DefinitionError, RegistryError
from buildkit.locks.model_source import OciSource, parse_artifact_place
from buildkit.oci.model_artifact import parse_model_manifest, render_model_artifact
from buildkit.oci.reference import parse_ref
from buildkit.resolve.artifact_models import ArtifactReader
from buildkit.resolve.models import choose_members
from buildkit.tools.registry import RegistryClient
from tests.registry import serve_registry

pytestmark = pytest.mark.tools

CONTENT = "application/vnd.cncf.model.weight.v1"
LAYER = "application/vnd.oci.image.layer.v1.tar"
PATH = "org.cncf.model.filepath"


class Registry:
    """Pushes manifests as others make them, and reads them as a lock does."""

    def __init__(self, host: str, folder: Path) -> None:
        import threading

        self.host, self.folder, self.client = host, folder, RegistryClient(threading.Event())
        self.number = 0

    def push(self, *layers: tuple[str, bytes, str], wrong: bytes = b"") -> str:
        """Push a manifest of layers (media type, bytes, path); return its name."""
        self.number += 1
        layout = self.folder / str(self.number)
        layout.mkdir()
        rows = [self._blob(layout, *layer) for layer in layers]
        config = self._blob(layout, "application/vnd.cncf.model.config.v1+json", b"{}", "")
        kind = "application/vnd.oci.image.manifest.v1+json"
        manifest = {"schemaVersion": 2, "mediaType": kind, "config": config, "layers": rows}
        (layout / "manifest.json").write_text(json.dumps(manifest))
        (layout / "version").write_text("Directory Transport Version: 1.1\n")
        ref = f"{self.host}/models/m{self.number}:v1"
        self.client.push(layout, parse_ref(ref, "test"))
        return ref

    def _blob(self, layout: Path, media_type: str, data: bytes, path: str) -> dict[str, object]:
        digest = Digest.of(data)
        (layout / digest.hex).write_bytes(data)
        told = {"annotations": {PATH: path}} if path else {}
        return {"mediaType": media_type, "digest": str(digest), "size": len(data), **told}

    def read(self, ref: str, *patterns: str) -> dict[str, bytes]:
        """Return the SHA-256 of each file that a lock would have."""
        reader = ArtifactReader(OciSource(url=f"oci://{ref}"), self.client, "amd64", lambda _done: None)
        choose = (lambda names: choose_members(names, patterns, ref)) if patterns else None
        digest, files = reader.read(choose)
        assert all(parse_artifact_place(file.source).ref.endswith(f"@{digest}") for file in files)
        return {file.path: file.sha256 for file in files}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    folder = tmp_path_factory.mktemp("registry")
    (folder / "layouts").mkdir()
    with pytest.MonkeyPatch.context() as patch, serve_registry(folder) as host:
        conf = folder / "registries.conf"
        conf.write_text(f'[[registry]]\nlocation = "{host}"\ninsecure = true\n')
        patch.setenv("CONTAINERS_REGISTRIES_CONF", str(conf))
        yield Registry(host, folder / "layouts")


def tar_of(*members: tuple[str, bytes | None]) -> bytes:
    """Return a tar of files; links where the content is None."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data or b"")
            if data is None:
                member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(member, io.BytesIO(data or b""))
    return out.getvalue()


def hashes(**files: bytes) -> dict[str, FileHash]:
    return {name.replace("__", "/").replace("_", "."): FileHash.of(data) for name, data in files.items()}


def test_modelpack_layers_of_every_form_are_files(registry: Registry) -> None:
    ref = registry.push(
        (f"{CONTENT}.raw", b"raw", "a/raw.bin"),
        ("application/vnd.cnai.model.weight.v1.tar", tar_of(("./tar.bin", b"tar")), ""),
        ("application/vnd.cncf.model.weight.config.v1.tar+gzip", gzip.compress(tar_of(("c/config.json", b"{}"))), ""),
        ("application/vnd.cncf.model.doc.v1.tar+zstd", zstandard.compress(tar_of(("README.md", b"#"))), ""),
    )
    expected = hashes(README_md=b"#", a__raw_bin=b"raw", c__config_json=b"{}", tar_bin=b"tar")
    assert registry.read(ref) == expected
    kept = registry.read(ref, "*.bin", "**/*.json")
    assert kept == {path: expected[path] for path in ("c/config.json", "tar.bin")}


def test_dockers_models_have_names_by_their_kind(registry: Registry) -> None:
    kind = "application/vnd.docker.ai"
    ref = registry.push(
        (f"{kind}.gguf.v3", b"one", ""), (f"{kind}.gguf.v3", b"two", ""), (f"{kind}.license", b"MIT", ""),
        (f"{kind}.vllm.config.tar", tar_of(("config.json", b"{}")), ""),
    )  # fmt: skip
    assert registry.read(ref) == {
        "LICENSE": FileHash.of(b"MIT"), "config.json": FileHash.of(b"{}"), "model-2.gguf": FileHash.of(b"two"),
        "model.gguf": FileHash.of(b"one"),
    }  # fmt: skip


def test_an_image_is_what_its_layers_leave_below_models(registry: Registry) -> None:
    ref = registry.push(
        (LAYER, tar_of(("etc/os-release", b"x"), ("models/old.bin", b"old"), ("models/gone/a.bin", b"a")), ""),
        (f"{LAYER}+gzip", gzip.compress(tar_of(("models/old.bin", b"new"), ("models/.wh.gone", b""))), ""),
    )
    assert registry.read(ref) == {"old.bin": FileHash.of(b"new")}
    other = registry.push((LAYER, tar_of(("opt/w.bin", b"w"), ("etc/passwd", b"root")), ""))
    with pytest.raises(DefinitionError, match="is an image without /models") as caught:
        registry.read(other)
    assert "files" in caught.value.hint
    assert registry.read(other, "opt/*.bin") == {"opt/w.bin": FileHash.of(b"w")}


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([("application/x-secret", b"x", "a")], "layer 1 .'application/x-secret'. is not of a model"),
        ([(f"{CONTENT}.raw", b"x", "")], "has no path"),
        ([(f"{CONTENT}.raw", b"x", "../../etc/cron.d/x")], "climbs out of its folder"),
        ([(f"{CONTENT}.raw", b"x", "/etc/x")], "has an absolute path"),
        ([(f"{CONTENT}.tar", tar_of(("../x", b"x")), "")], "climbs out of its folder"),
        ([(f"{CONTENT}.tar", tar_of(("link", None)), "")], "link is a symbolic link"),
        ([(f"{CONTENT}.tar", b"no tar at all" * 99, "")], "damaged|cannot be unpacked"),
        ([], "holds no file"),
    ],
)
def test_hostile_manifests_and_tars_are_refused(
    registry: Registry, layers: list[tuple[str, bytes, str]], message: str
) -> None:
    ref = registry.push(*layers)
    with pytest.raises((DefinitionError, BuildError), match=message):
        registry.read(ref)


def test_what_a_registry_lacks_or_exchanges_is_said(
    registry: Registry, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with pytest.raises(DefinitionError, match=r"has no .*/models/nothing:v1"):
        registry.read(f"{registry.host}/models/nothing:v1")
    ref = registry.push((f"{CONTENT}.tar", (tar := tar_of(("w.bin", b"weights"))), ""))
    digest = hashlib.sha256(tar).hexdigest()
    data = next(registry.folder.parent.rglob(f"sha256/{digest[:2]}/{digest}/data"))
    data.write_bytes(tar.replace(b"weights", b"WEIGHTS"))
    with pytest.raises(RegistryError, match=r"fetching .* failed"):
        registry.read(ref)


def test_files_that_are_layers_are_locked_without_being_read(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = registry.push((f"{CONTENT}.raw", b"weights", "w.bin"))
    monkeypatch.setattr(RegistryClient, "fetch_blob", None)
    assert registry.read(ref) == {"w.bin": FileHash.of(b"weights")}


def test_what_we_push_is_what_we_read_and_the_same_each_time() -> None:
    files = [
        ("a/w.safetensors", Digest.of(b"w"), 1),
        ("README.md", Digest.of(b"r"), 1),
        ("model.py", Digest.of(b"p"), 1),
    ]
    manifest, config = render_model_artifact("m", "v1", "MIT", files)
    assert (manifest, config) == render_model_artifact("m", "v1", "MIT", files)
    assert [(part.path, part.digest, part.size) for part in parse_model_manifest(manifest)] == files
    read = json.loads(manifest)
    assert read["artifactType"] == "application/vnd.cncf.model.manifest.v1+json"
    kinds = [layer["mediaType"].removeprefix("application/vnd.cncf.model.") for layer in read["layers"]]
    assert kinds == ["weight.v1.raw", "doc.v1.raw", "code.v1.raw"]
    assert json.loads(config)["modelfs"]["diffIds"] == [str(digest) for _, digest, _ in files]
