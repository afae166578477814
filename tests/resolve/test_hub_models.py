"""Models of a hub, on loopback: pinned by commit and SHA-256, fetched from where the settings say."""

import threading

import pytest

from buildkit.build.fetch import ExpectedFile, Fetcher
from buildkit.declare.target import Target
from buildkit.digest import FileHash
from buildkit.errors import DefinitionError, FetchError
from buildkit.events import ignore_event
from buildkit.locks.models_lock import parse_models_lock
from buildkit.resolve.models import ModelLocker
from buildkit.resolve.request import LockDrafts, LockRequest
from buildkit.tools.http import HttpSession, RetryPolicy
from buildkit.tools.index_settings import load_sources
from buildkit.tools.indexes import Indexes
from tests.resolve.modelhub import serve_hub

FILE = "requirements/models.toml"
TARGET = Target(python="3.13", glibc="2.41", arch="x86_64")
FILES = {
    ".gitattributes": b"*.bin filter=lfs",
    "config.json": b"{}",
    "model.safetensors": b"weights",
    "onnx/model one.bin": b"more weights",
    "tokenizer.json": b'{"a": 1}',
}


@pytest.fixture
def hub():
    with serve_hub("org/name") as server:
        server.commit(FILES, "main", "v1.0")
        yield server


class Bench:
    def __init__(self, root, hub, **env):
        self.root = root
        (root / "requirements").mkdir(exist_ok=True)
        sources = load_sources(root, {"HF_ENDPOINT": f"{hub.url}/", "UV_NO_CONFIG": "1", "HOME": str(root), **env})
        retry_policy = RetryPolicy(threading.Event(), unit=0.01)
        self.session = HttpSession(sources, retry_policy)
        indexes = Indexes(sources, self.session, TARGET)
        self.fetcher = Fetcher(self.session, indexes, retry_policy)
        self.drafts = LockDrafts(root)
        request = LockRequest(root=root, target=TARGET, models=(FILE,))
        self.locker = ModelLocker(request, self.drafts, lambda: self.fetcher, lambda: indexes)

    def lock(self, more="", upgrade=False, source="hf:org/name"):
        (self.root / FILE).write_text(f'[[model]]\nname = "m"\nsource = "{source}"\n{more}')
        self.locker.lock(FILE, ignore_event, upgrade=upgrade)
        self.drafts.write()
        text = (self.root / "requirements/models.lock").read_text()
        return parse_models_lock(text, "x").models[0]


def test_files_are_pinned_by_commit_and_sha256_and_large_ones_are_not_fetched(tmp_path, hub):
    model = Bench(tmp_path, hub).lock()
    commit = hub.revisions["main"]
    assert (model.version, model.license, str(model.source)) == (commit, "apache-2.0", "hf:org/name")
    assert {file.path: (file.sha256, file.size) for file in model.files} == {
        path: (FileHash.of(data), len(data)) for path, data in FILES.items() if path != ".gitattributes"
    }
    assert model.files[2].source == f"https://huggingface.co/org/name/resolve/{commit}/onnx/model%20one.bin"
    assert not [path for path, _ in hub.asked if path.startswith("store") or ".safetensors" in path]
    assert str(hub.server_port) not in (tmp_path / "requirements/models.lock").read_text()


def test_patterns_and_revisions_choose_and_an_upgrade_moves_on(tmp_path, hub):
    bench = Bench(tmp_path, hub)
    old = hub.revisions["main"]
    more = 'files = ["*.json", "*.safetensors"]\n'
    assert [file.path for file in bench.lock(more).files] == ["config.json", "model.safetensors", "tokenizer.json"]
    new = hub.commit({"config.json": b"{1}", "model.safetensors": b"w2"}, "main")
    assert bench.lock(more).version == old
    assert bench.lock(more, upgrade=True).version == new
    assert Bench(tmp_path, hub).lock(f'{more}version = "v1.0"\n').version == old
    assert Bench(tmp_path, hub).lock(f'{more}version = "{new}"\n').version == new


def test_a_build_fetches_the_locked_bytes_and_the_token_goes_to_the_hub_alone(tmp_path, hub):
    hub.token = "hf_secret"
    bench = Bench(tmp_path, hub, HF_TOKEN="hf_secret")
    model = bench.lock()
    file = next(file for file in model.files if file.path == "model.safetensors")
    expected = ExpectedFile(what="m", sha256=file.sha256, size=file.size)
    bench.fetcher.fetch_url(file.source, expected, tmp_path / "out", progress=lambda _done: None)
    assert (tmp_path / "out").read_bytes() == b"weights"
    assert {secret for path, secret in hub.asked if path.startswith("store")} == {""}
    assert {secret for path, secret in hub.asked if not path.startswith("store")} == {"Bearer hf_secret"}
    assert "hf_secret" not in repr(bench.session._sources)


def test_what_the_hub_lacks_or_refuses_is_said(tmp_path, hub):
    with pytest.raises(DefinitionError, match="there is no revision `nope` of org/name"):
        Bench(tmp_path, hub).lock('version = "nope"\n')
    with pytest.raises(DefinitionError, match="there is no revision `main` of org/other"):
        Bench(tmp_path, hub).lock(source="hf:org/other")
    with pytest.raises(DefinitionError, match=r"hf:org/name has no member `\*\.gguf`"):
        Bench(tmp_path, hub).lock('files = ["*.gguf"]\n')
    hub.token = "hf_other"
    with pytest.raises(FetchError, match="the hub refused with 401") as caught:
        Bench(tmp_path, hub).lock()
    assert "HF_TOKEN" in caught.value.hint
    (tmp_path / FILE).write_text('[[model]]\nname = "m"\nsource = "hf:a/b/c"\n')
    with pytest.raises(DefinitionError, match="hf:ORG/NAME"):
        Bench(tmp_path, hub).locker.lock(FILE, ignore_event, upgrade=False)


def test_hostile_answers_are_refused(tmp_path, hub):
    commit = hub.commit({"../../etc/passwd": b"x"}, "main")
    with pytest.raises(DefinitionError, match="passwd"):
        Bench(tmp_path, hub).lock()
    hub.commits[commit] = {}
    hub.revisions = {"main": "no commit"}
    hub.commits["no commit"] = {}
    with pytest.raises(FetchError, match=r"not as documented: .* names no commit"):
        Bench(tmp_path, hub).lock()
