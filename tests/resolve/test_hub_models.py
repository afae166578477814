"""Models of a hub, on loopback: pinned by commit and SHA-256, fetched from where the settings say."""

import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from buildkit.build.fetch import ExpectedFile, Fetcher
from buildkit.declare.target import Target
from buildkit.digest import FileHash
from buildkit.errors import DefinitionError, FetchError, MismatchError
from buildkit.events import ignore_event
from buildkit.locks.models_lock import parse_models_lock
from buildkit.resolve.models import ModelLocker
from buildkit.resolve.request import LockDrafts, LockRequest
from buildkit.tools import model_hub
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


def test_revision_is_the_key_of_hub_sources_alone(tmp_path, hub):
    bench = Bench(tmp_path, hub)
    assert bench.lock('revision = "v1.0"\n').version == hub.revisions["main"]
    with pytest.raises(DefinitionError, match="says the same as `revision`"):
        bench.lock('revision = "main"\nversion = "main"\n')
    with pytest.raises(DefinitionError, match=r"is for sources of a hub \(`hf:`\)"):
        bench.lock('revision = "main"\n', source="path:models")
    with pytest.raises(DefinitionError) as caught:
        bench.lock('revision = "main"\n', source="oci:ghcr.io/me/x:v1")
    assert [problem.hint for problem in caught.value.problems] == ["leave it out"]


@pytest.mark.parametrize(
    ("more", "source", "message", "hint"),
    [
        ('revision = "man"\n', "hf:org/name", "no revision `man` of org/name", "did you mean `main`.*branches"),
        ('revision = "x/y"\n', "hf:org/name", "no revision `x/y` of org/name", "^branches and tags: main, v1.0$"),
        ("", "hf:org/other", "the hub has no model org/other", "HF_TOKEN"),
        ('files = ["*.gguf"]\n', "hf:org/name", r"hf:org/name has no member `\*\.gguf`", "it has config.json"),
        ("", "hf:a/b/c", "hf:ORG/NAME", ""),
        ("", "hf:old/name", "the hub knows old/name as 'org/name' now", 'source = "hf:org/name"'),
    ],
)
def test_what_the_hub_lacks_is_said(tmp_path, hub, more, source, message, hint):
    hub.renamed = "old/name"
    with pytest.raises(DefinitionError, match=message) as caught:
        Bench(tmp_path, hub).lock(more, source=source)
    assert re.search(hint, caught.value.problems[0].hint)


@pytest.mark.parametrize(
    ("state", "message", "hint"),
    [
        ({"token": "hf_other"}, "refused with 401: there is no such model, or it may not be read", "HF_TOKEN"),
        ({"gated": True}, "org/name is gated: the hub refused with 403", "accept its conditions .*org/name.*HF_TOKEN"),
        ({"busy": True}, "answered 429 for main", "wait some minutes, or set HF_TOKEN"),
    ],
)
def test_what_the_hub_refuses_is_said(tmp_path, hub, state, message, hint):
    for name, value in state.items():
        setattr(hub, name, value)
    with pytest.raises(FetchError, match=message) as caught:
        Bench(tmp_path, hub, HF_TOKEN="hf_mine").lock()
    assert re.search(hint, caught.value.hint)
    assert "hf_mine" not in f"{caught.value.message}{caught.value.hint}"


def test_hub_that_cannot_be_reached_is_told_from_an_index(tmp_path, hub):
    gone = SimpleNamespace(url="http://127.0.0.1:9")
    with pytest.raises(FetchError, match=r"cannot download from 127\.0\.0\.1") as caught:
        Bench(tmp_path, gone).lock()
    assert caught.value.hint.startswith("check the network, and HF_ENDPOINT, which names the hub")
    with pytest.raises(FetchError) as caught:
        Bench(tmp_path, hub).session.get("http://127.0.0.1:9/simple/x")
    assert caught.value.hint.startswith("check the network, and the index, proxy")


def test_hostile_answers_are_refused(tmp_path, hub, monkeypatch):
    commit = hub.commit({"../../etc/passwd": b"x"}, "main")
    with pytest.raises(DefinitionError, match="passwd"):
        Bench(tmp_path, hub).lock()
    hub.commits[commit] = {"a": b"1"}
    tree = f"/api/models/org/name/tree/{commit}"
    one = {"type": "file", "path": "a", "size": 1, "oid": "0" * 40}
    lfs = {"oid": "sha256:0", "size": 1, "pointerSize": 1}
    for said in ("text", [one, one], [one | {"size": "1"}], [one | {"lfs": lfs}], [{"type": "file"}], [[[]]]):
        hub.said = {tree: said}
        with pytest.raises(FetchError, match="not as documented"):
            Bench(tmp_path, hub).lock()
    hub.said = {tree: [one]}
    with pytest.raises(FetchError, match=r"the hub lists a with 0000.* and 1 bytes, but sends 56a6051.* and 1 bytes"):
        Bench(tmp_path, hub).lock()
    hub.said = {"/api/models/org/name/revision/main": {"id": "org/name", "sha": "no commit"}}
    with pytest.raises(FetchError, match=r"not as documented: .* names no commit"):
        Bench(tmp_path, hub).lock()
    monkeypatch.setattr(model_hub, "_MOST_BYTES", 10)
    with pytest.raises(FetchError, match="sent more than 10 bytes"):
        Bench(tmp_path, hub).lock()


def test_a_list_without_end_and_one_that_leads_elsewhere_are_refused(tmp_path, hub, monkeypatch):
    hub.said = {"/api/models/org/name/revision/main": {"id": "org/name", "sha": (commit := hub.revisions["main"])}}
    hub.said[f"/api/models/org/name/tree/{commit}"] = []
    hub.more = f"{hub.url}/api/models/org/name/tree/{commit}?cursor=0"
    monkeypatch.setattr(model_hub, "_MOST_REQUESTS", 5)
    with pytest.raises(FetchError, match="without an end"):
        Bench(tmp_path, hub).lock()
    hub.more = "http://169.254.169.254/latest"
    with pytest.raises(FetchError, match=r"at 169\.254\.169\.254"):
        Bench(tmp_path, hub).lock()


def test_a_hub_that_sends_other_large_bytes_is_named_with_both_hashes(tmp_path, hub):
    bench = Bench(tmp_path, hub)
    file = bench.lock('files = ["*.safetensors"]\n').files[0]
    hub.swapped = b"WEIGHTS"
    expected = ExpectedFile(what="m: model.safetensors", sha256=file.sha256, size=file.size)
    with pytest.raises(MismatchError, match=r"m: model\.safetensors: the lock says") as caught:
        bench.fetcher.fetch_url(file.source, expected, tmp_path / "out", progress=lambda _done: None)
    assert str(file.sha256) in caught.value.message
    assert str(FileHash.of(b"WEIGHTS")) in caught.value.message
    assert not (tmp_path / "out").exists()


USER = """
import os, sys, threading
from pathlib import Path
from huggingface_hub import snapshot_download
from tests.resolve.test_hub_models import Bench, ExpectedFile
class Hub: url = os.environ["HF_ENDPOINT"]
root = Path(sys.argv[1])
snapshot_download("org/name")  # the user had it before
print("cached", flush=True)
sys.stdin.readline()
before = sorted((str(p), p.lstat().st_mtime_ns) for p in Path(os.environ["HF_HOME"]).rglob("*"))
bench = Bench(root, Hub)
model = bench.lock()
for file in model.files:
    expected = ExpectedFile(what=file.path, sha256=file.sha256, size=file.size)
    bench.fetcher.fetch_url(file.source, expected, root / "out", progress=lambda _done: None)
assert before == sorted((str(p), p.lstat().st_mtime_ns) for p in Path(os.environ["HF_HOME"]).rglob("*"))
"""


def test_the_cache_and_the_log_in_of_the_real_library_are_used_and_left_as_they_are(tmp_path, hub):
    hub.token = "hf_file"
    home = tmp_path / "home"
    home.mkdir()
    (home / "token").write_text("hf_file\n")
    env = {**os.environ, "HF_HOME": str(home), "HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_TELEMETRY": "1",
           "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_XET": "1"}  # fmt: skip
    argv = (sys.executable, "-c", USER, str(tmp_path))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(argv, env=env, cwd=Path(__file__).parents[2], **pipes) as user:
        assert user.stdout.readline() == "cached\n"
        hub.asked.clear()
        blob = home / "hub/models--org--name/blobs" / FileHash.of(b"more weights").hex
        blob.write_bytes(b"damaged! ...")  # is fetched again, and not mended
        user.communicate("\n")
    assert user.returncode == 0
    asked = [path for path, _ in hub.asked]
    assert [path for path in asked if not path.startswith("/api/")] == [
        f"/org/name/resolve/{hub.revisions['main']}/onnx/model%20one.bin", f"store/{blob.name}"
    ]  # fmt: skip
    assert blob.read_bytes() == b"damaged! ..."


def test_offline_means_that_the_hub_is_not_asked(tmp_path, hub, monkeypatch):
    bench = Bench(tmp_path, hub)
    file = bench.lock().files[0]
    hub.asked.clear()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    expected = ExpectedFile(what="m", sha256=file.sha256, size=file.size)
    with pytest.raises(FetchError, match="the settings forbid to ask the model hub"):
        bench.fetcher.fetch_url(file.source, expected, tmp_path / "out", progress=lambda _done: None)
    with pytest.raises(FetchError, match="the settings forbid to ask the model hub") as caught:
        bench.lock(upgrade=True)
    assert "unset HF_HUB_OFFLINE" in caught.value.hint
    assert not hub.asked
