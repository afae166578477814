"""Models locks: from wheels in a folder, from a server on loopback, and from the checkout."""

import subprocess
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from buildkit.build.fetch import Fetcher
from buildkit.build.model_folder import advise_missing
from buildkit.declare.target import Target
from buildkit.digest import FileHash
from buildkit.errors import BuildError, BuildkitError, DefinitionError, FetchError, ToolError
from buildkit.events import Note, StepFailed, StepFinished, StepStarted, ignore_event
from buildkit.locks.models_lock import parse_models_lock
from buildkit.resolve.models import ModelLocker, read_wheel
from buildkit.resolve.request import LockDrafts, LockRequest
from buildkit.tools.http import HttpSession, RetryPolicy
from buildkit.tools.index_settings import IndexSettings, PackageSources
from buildkit.tools.indexes import Indexes

TARGET = Target(python="3.13", glibc="2.41", arch="x86_64")
FILE = "requirements/models.toml"
WHEEL = "vad-6.1-py3-none-any.whl"


@pytest.fixture
def root(tmp_path):
    for folder in ("requirements", "links", "models/own/sub"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "models/own/a.bin").write_bytes(b"own a")
    (tmp_path / "models/own/sub/b.bin").write_bytes(b"own b")
    for version in ("6.1", "7.0"):
        with zipfile.ZipFile(tmp_path / f"links/vad-{version}-py3-none-any.whl", "w") as wheel:
            wheel.writestr("vad/data/one.onnx", f"one {version}")
            wheel.writestr("vad/data/deep/two.onnx", "two")
            wheel.writestr("vad/code.py", "")
            metadata = f"Metadata-Version: 2.4\nName: vad\nVersion: {version}\nLicense-Expression: MIT\n\nText\n"
            wheel.writestr(f"vad-{version}.dist-info/METADATA", metadata)
    return tmp_path


class Bench:
    def __init__(self, root, emit=ignore_event):
        self.root, self.emit = root, emit
        sources = PackageSources(
            pip=IndexSettings(no_index=True, find_links=(str(root / "links"),)), uv=IndexSettings()
        )
        retry_policy = RetryPolicy(threading.Event(), unit=0.01)
        self.session = HttpSession(sources, retry_policy)
        indexes = Indexes(sources, self.session, TARGET)
        fetcher = Fetcher(self.session, indexes, retry_policy)
        self.drafts = LockDrafts(root)
        request = LockRequest(root=root, target=TARGET, models=(FILE,))
        self.locker = ModelLocker(request, self.drafts, lambda: fetcher, lambda: indexes)

    def lock(self, text, upgrade=False):
        (self.root / FILE).write_text(text)
        self.locker.lock(FILE, self.emit, upgrade=upgrade)
        self.drafts.write()
        self.session.close()
        return parse_models_lock((self.root / "requirements/models.lock").read_text(), "x").models


VAD = '[[model]]\nname = "v"\nsource = "pypi:vad"\nversion = "6.1"\nfiles = ["vad/data/**"]\n'
OWN = '[[model]]\nname = "own"\nsource = "path:models/own"\n'


@pytest.mark.parametrize(
    ("source", "hint"),
    [
        ("models/owns", "did you mean `models/own`?"),
        ("model/own", "did you mean `models/own`?"),
        ("Models/own/subs", "did you mean `models/own/sub`?"),
        ("model/elsewhere", "did you mean `models`?"),
        ("models/own/subs", "did you mean `models/own/sub`?"),
        ("elsewhere", "name a folder of the repository"),
    ],
)
def test_misspelt_folder_is_refused_with_the_nearest_name(root, source, hint):
    with pytest.raises(DefinitionError) as caught:
        Bench(root).lock(OWN.replace("models/own", source))
    (problem,) = caught.value.problems
    assert problem.what == f"{source}: there is no such file or folder"
    assert problem.hint == hint
    assert problem.file == FILE
    assert not (root / "requirements/models.lock").exists()


def test_model_files_are_locked_from_members_of_a_wheel(root):
    (model,) = Bench(root).lock(VAD)
    assert (model.version, model.license, model.wheel.file) == ("6.1", "MIT", WHEEL)
    assert model.wheel.sha256 == FileHash.of((root / "links" / WHEEL).read_bytes())
    assert model.wheel.size == (root / "links" / WHEEL).stat().st_size
    assert [(file.path, file.source, file.size) for file in model.files] == [
        ("deep/two.onnx", "vad/data/deep/two.onnx", 3),
        ("one.onnx", "vad/data/one.onnx", 7),
    ]
    assert model.files[1].sha256 == FileHash.of(b"one 6.1")


def test_specifier_selects_newest_version_and_unchanged_model_is_kept(root):
    text = VAD.replace('"6.1"', '">=6"')
    assert Bench(root).lock(text)[0].version == "7.0"
    (root / "links/vad-7.1-py3-none-any.whl").write_bytes((root / "links/vad-7.0-py3-none-any.whl").read_bytes())
    events = []
    assert Bench(root, events.append).lock(text)[0].version == "7.0"
    assert not [event for event in events if isinstance(event, StepFinished)]
    assert Bench(root).lock(text, upgrade=True)[0].version == "7.1"


def test_repository_model_files_are_always_read_again(root):
    (model,) = Bench(root).lock(OWN)
    assert [(file.path, file.source) for file in model.files] == [
        ("a.bin", "models/own/a.bin"), ("sub/b.bin", "models/own/sub/b.bin"),
    ]  # fmt: skip
    assert Bench(root).locker.find_stale(FILE) is None
    (root / "models/own/a.bin").write_bytes(b"new a")
    assert "differ from those of the lock" in Bench(root).locker.find_stale(FILE).what
    assert Bench(root).lock(OWN)[0].files[0].sha256 == FileHash.of(b"new a")
    (model,) = Bench(root).lock(f'{OWN}files = ["sub/*"]\n')
    assert [file.path for file in model.files] == ["sub/b.bin"]


def test_all_missing_model_sources_are_reported_together(root):
    text = (
        VAD.replace("vad/data/**", "vad/nope/*")
        + VAD.replace('"v"', '"w"').replace("6.1", "9")
        + OWN.replace("models/own", "models/none")
    )
    with pytest.raises(DefinitionError) as caught:
        Bench(root).lock(text)
    message = str(caught.value)
    for word in ("model v", "vad/nope/*", "model w", "vad==9", "model own", "models/none"):
        assert word in message
    assert not (root / "requirements/models.lock").exists()


def test_locking_a_model_is_a_step_that_finishes_or_fails(root):
    events = []
    Bench(root, events.append).lock(OWN)
    with pytest.raises(DefinitionError):
        Bench(root, events.append).lock(OWN.replace("models/own", "models/none"))
    assert [(type(event), event.step, event.phase) for event in events] == [
        (StepStarted, "lock own", "lock"),
        (StepFinished, "lock own", "lock"),
        (StepStarted, "lock own", "lock"),
        (StepFailed, "lock own", "lock"),
    ]


def test_truncated_wheel_is_reported(tmp_path):
    (tmp_path / WHEEL).write_bytes(b"PK\x03\x04 not a zip")
    with pytest.raises(BuildError, match=WHEEL):
        read_wheel(tmp_path / WHEEL, ("*",))


@pytest.fixture
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    (folder / "v1").mkdir()
    (folder / "v1/a.onnx").write_bytes(b"served a")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    made = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{made.server_port}"
    made.shutdown()
    made.server_close()


def test_model_files_are_locked_from_urls(root, server, monkeypatch):
    # https needs a certificate; what is tested is what happens behind it
    monkeypatch.setattr(HttpSession, "open", _plainly(HttpSession.open))
    base = server.replace("http:", "https:") + "/v1"
    (model,) = Bench(root).lock(f'[[model]]\nname = "m"\nsource = "{base}/a.onnx"\nversion = "1"\n')
    assert (model.files[0].path, model.files[0].sha256, model.files[0].size) == ("a.onnx", FileHash.of(b"served a"), 8)
    (model,) = Bench(root).lock(f'[[model]]\nname = "m"\nsource = "{base}/"\nfiles = ["a.onnx"]\n')
    assert model.files[0].source == f"{base}/a.onnx"
    with pytest.raises(FetchError, match="404"):
        Bench(root).lock(f'[[model]]\nname = "m"\nsource = "{base}"\nfiles = ["b.onnx"]\n')


def _plainly(open_url):
    def opened(self, url, *, start=0):
        return open_url(self, url.replace("https:", "http:"), start=start)

    return opened


@pytest.mark.parametrize("kind", ["file", "folder", "dangling", "source", "parent", "git"])
def test_repository_model_that_leads_out_of_the_repository_is_refused_by_name(root, tmp_path_factory, kind):
    outside = tmp_path_factory.mktemp("outside")
    (outside / "key").write_text("secret")
    (root / ".git").mkdir()
    (root / ".git/config").write_text("secret")
    link, target, source = {
        "file": ("models/own/link", outside / "key", "models/own"),
        "folder": ("models/own/link", outside, "models/own"),
        "dangling": ("models/own/link", outside / "nothing", "models/own"),
        "source": ("models/link", outside, "models/link"),
        "parent": ("link", outside, "link/key"),
        "git": ("models/own/link", "../../.git/config", "models/own"),
    }[kind]
    (root / link).symlink_to(target)
    with pytest.raises(DefinitionError) as caught:
        Bench(root).lock(f'[[model]]\nname = "own"\nsource = "path:{source}"\n')
    named = {"source": "models/link", "parent": "link/key"}.get(kind, "models/own/link")
    assert f"{named}: " in str(caught.value)
    assert "leads out of the repository's files, to " in str(caught.value)
    assert not (root / "requirements/models.lock").exists()


@pytest.fixture
def checkout(root):
    """The repository with a submodule in the model's folder that is not fetched."""
    git = partial(subprocess.run, cwd=root, check=True, capture_output=True)
    git(("git", "init", "--quiet"))
    git(("git", "add", "."))
    entry = f"160000,{'1' * 40},models/own/more"
    (root / "models/own/more").mkdir()
    git(("git", "update-index", "--add", "--cacheinfo", entry))
    return root


@pytest.mark.parametrize(
    ("source", "files"), [("models/own", ""), ("models/own", 'files = ["more/*"]'), ("models/own/more", "")]
)
def test_submodule_of_a_repository_model_that_is_not_fetched_is_named(checkout, source, files):
    with pytest.raises(DefinitionError, match="models/own/more of model `own` is not in this checkout") as caught:
        Bench(checkout).lock(f'[[model]]\nname = "own"\nsource = "path:{source}"\n{files}\n')
    assert caught.value.hint == "run: git submodule update --init -- models/own/more"


@pytest.mark.parametrize("left_out", ["models/own/sub/b.bin", "models/own/sub/", "models/"])
def test_file_that_a_sparse_checkout_leaves_out_is_not_forgotten_by_the_lock(checkout, left_out):
    identity = ("-c", "user.name=a", "-c", "user.email=a@b.example")
    git = partial(subprocess.run, cwd=checkout, check=True, capture_output=True)
    git(("git", "rm", "--quiet", "--cached", "models/own/more"))
    git(("git", *identity, "commit", "--quiet", "--message", "all"))
    Bench(checkout).lock(OWN)
    before = (checkout / "requirements/models.lock").read_text()
    git(("git", "sparse-checkout", "set", "--no-cone", "/*", f"!/{left_out}"))
    with pytest.raises(DefinitionError, match="of model `own` is not in this checkout") as caught:
        Bench(checkout).lock(OWN)
    assert caught.value.hint.startswith("run: git sparse-checkout add models/own")
    assert (checkout / "requirements/models.lock").read_text() == before
    assert advise_missing(checkout, "models/own/sub/b.bin") == "run: git sparse-checkout add models/own/sub"


def test_model_is_not_locked_where_git_cannot_tell_what_is_missing(checkout):
    (checkout / ".git/index").write_bytes(b"no index")
    with pytest.raises(ToolError, match="git, listing the files of") as caught:
        Bench(checkout).lock(OWN)
    assert "repair the repository" in caught.value.hint


def test_unwanted_file_need_not_be_in_the_checkout(checkout):
    (model,) = Bench(checkout).lock(OWN + 'files = ["*.bin"]\n')
    assert [file.path for file in model.files] == ["a.bin"]


def test_repository_model_may_have_links_within_the_repository_and_unwanted_ones(root):
    (root / "models/own/again.bin").symlink_to("a.bin")
    (root / "models/own/folder").symlink_to("sub")
    (root / "models/own/far").symlink_to("/etc/passwd")
    Bench(root).lock(OWN + 'files = ["*.bin", "folder", "sub/*"]\n')
    (model,) = parse_models_lock((root / "requirements/models.lock").read_text(), "x").models
    assert [file.path for file in model.files] == ["a.bin", "again.bin", "folder/b.bin", "sub/b.bin"]


def test_linked_folder_belongs_to_a_repository_model(root):
    (root / "shared/vae").mkdir(parents=True)
    (root / "shared/vae/vae.json").write_text("{}")
    (root / "models/own/vae").symlink_to("../../shared/vae")
    (model,) = Bench(root).lock(OWN)
    assert {"vae/vae.json": "models/own/vae/vae.json"}.items() <= {f.path: f.source for f in model.files}.items()


@pytest.mark.parametrize(
    ("name", "target", "message"),
    [
        ("part.json", "../nowhere", "models/own/part.json of model `own` is a link to models/nowhere, which does not"),
        ("circle", "..", "models/own/circle of model `own` is a link to a folder that it is in"),
        ("a\nb", None, "'models/own/a\\nb' of model `own` has an unprintable character in its path"),
        (".wh.notes", None, "'models/own/.wh.notes' of model `own` has a name that deletes files of the layers below"),
        ("big.bin", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a pointer of Git LFS"),
    ],
)
def test_file_that_no_build_could_pack_is_refused_by_the_lock(root, name, target, message):
    path = root / "models/own" / name
    if isinstance(target, str):
        path.symlink_to(target)
    else:
        path.write_bytes(target or b"x")
    with pytest.raises(BuildkitError) as caught:
        Bench(root).lock(OWN)
    assert message in str(caught.value)
    assert not (root / "requirements/models.lock").exists()


@pytest.mark.parametrize("name", ["vad/data/.wh.one", "vad/data/../../x", "vad/data/a\nb", "vad/data//x"])
def test_member_of_a_wheel_that_no_build_could_pack_is_refused_by_the_lock(root, name):
    with zipfile.ZipFile(root / "links" / WHEEL, "a") as wheel:
        wheel.writestr(name, "x")
    with pytest.raises(DefinitionError, match=r"vad-6.1-py3-none-any\.whl: 'vad/data/.*' has a"):
        Bench(root).lock(VAD)


def test_bookkeeping_is_left_out_of_a_repository_model_with_a_note(root):
    for name in (
        ".git/config",
        ".cache/huggingface/download/x.metadata",
        "sub/.git/config",
        ".bzr/x",
        ".sl/x",
        ".pijul/x",
        ".cache/kept",
    ):
        (root / "models/own" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "models/own" / name).write_text("token")
    events = []
    (model,) = Bench(root, events.append).lock(OWN)
    assert [file.path for file in model.files] == [".cache/kept", "a.bin", "sub/b.bin"]
    (note,) = [event.text for event in events if isinstance(event, Note)]
    assert note == "models/own/.bzr and 5 more: left out, bookkeeping is not part of a model"


DERIVE = '[[derive]]\nname = "half"\nfrom = "own"\ntool = "to-safetensors"\n'


def test_lock_leaves_derived_models_to_their_session_and_keeps_those_that_were_made(root):
    said = []
    bench = Bench(root, said.append)
    (own,) = bench.lock(OWN + DERIVE)
    assert [note.text for note in said if isinstance(note, Note)] == [
        "half: not derived yet; run: nox -s derive -- half"
    ]
    path = root / "requirements/models.lock"
    made = (
        f'\n[[model]]\nname = "half"\nversion = ""\nsource = "derive:own"\nlicense = ""\nrequest = "{"4" * 64}"\n\n'
        f'[[model.file]]\npath = "a.safetensors"\nsha256 = "{"5" * 64}"\nsize = 3\nsource = ""\n\n'
        '[model.derived]\ntool = "to-safetensors"\nstage = "optimiser"\n'
    )
    path.write_text(path.read_text() + made)
    again = Bench(root).lock(OWN + "# a comment\n\n" + DERIVE)
    assert [model.name for model in again] == ["own", "half"]
    assert again[1].files[0].sha256 == FileHash("5" * 64)
    moved = Bench(root).lock(OWN + DERIVE + 'target = "/opt/half"\n')
    assert moved[1].target == "/opt/half"
    assert Bench(root).lock(OWN + DERIVE + 'options = { key = "x" }\n') == (own,)
