"""Which file fits a target: unearth's answers for real folders and local indexes."""

import io
import tarfile
import threading
import warnings
import zipfile
from dataclasses import replace

import pytest
from unearth.evaluator import Evaluator
from unearth.utils import fix_legacy_specifier

from buildkit.declare.target import Target
from buildkit.digest import FileHash
from buildkit.errors import FetchError
from buildkit.locks.pins import Artifact, Pin
from buildkit.tools.finder import default_index, make_finder, make_target_python
from buildkit.tools.http import HttpSession, RetryPolicy
from buildkit.tools.index_settings import IndexSettings, PackageSources
from buildkit.tools.indexes import Indexes

TARGET = Target(python="3.13", glibc="2.41", arch="x86_64")


def indexes(target=TARGET, **settings):
    sources = PackageSources(pip=IndexSettings(**{"no_index": True, **settings}), uv=IndexSettings())
    return Indexes(sources, HttpSession(sources, RetryPolicy(threading.Event())), target)


@pytest.fixture
def links(tmp_path):
    def make(*names):
        for name in names:
            (tmp_path / name).write_bytes(name.encode())
        return str(tmp_path)

    return make


def best(folder, target=TARGET, hashes=()):
    asked = indexes(target, find_links=(folder,))
    found = asked.find_pinned(pin_of(hashes)) if hashes else asked.find_first("thing", "==1.0")
    return found.file if found else None


def pin_of(hashes, version="1.0", form=""):
    return Pin(name="thing", version=version, hashes=tuple(hashes), file="x", line=1, form=form)


CP313 = "thing-1.0-cp313-cp313-manylinux_2_28_x86_64.whl"
ABI3 = "thing-1.0-cp39-abi3-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"
NONE = "thing-1.0-py3-none-any.whl"
PLATFORM = "thing-1.0-py3-none-manylinux2014_x86_64.whl"
SDIST = "thing-1.0.tar.gz"


def test_the_most_specific_wheel_wins(links):
    assert best(links(SDIST, NONE)) == NONE
    assert best(links(PLATFORM)) == PLATFORM
    assert best(links(ABI3)) == ABI3
    assert best(links(CP313)) == CP313


def test_files_whose_page_says_another_hash_are_not_judged(tmp_path, monkeypatch):
    listed = {NONE: FileHash("a" * 64), CP313: FileHash("b" * 64), SDIST: None}
    anchors = "".join(
        f'<a data-requires-python="&gt;=3.9" href="{name}{f"#sha256={sha256.hex}" if sha256 else ""}">{name}</a>'
        for name, sha256 in listed.items()
    )
    (tmp_path / "page.html").write_text(anchors)
    judged, judge = [], Evaluator.evaluate_link
    monkeypatch.setattr(
        Evaluator, "evaluate_link", lambda self, link: judged.append(link.filename) or judge(self, link)
    )
    found = indexes(find_links=(str(tmp_path / "page.html"),)).find_pinned(pin_of([listed[NONE]]))
    assert (found.file, found.sha256) == (NONE, listed[NONE])
    assert sorted(judged) == sorted([NONE, SDIST]), "and one whose hash is not known"


@pytest.mark.parametrize(
    "other",
    [
        "thing-1.0-cp311-cp311-manylinux_2_28_x86_64.whl",
        "thing-1.0-cp314-cp314-manylinux_2_28_x86_64.whl",
        "thing-1.0-cp313-cp313t-manylinux_2_28_x86_64.whl",
        "thing-1.0-cp314-abi3-manylinux_2_28_x86_64.whl",
        "thing-1.0-cp313-cp313-manylinux_2_42_x86_64.whl",
        "thing-1.0-cp313-cp313-musllinux_1_2_x86_64.whl",
        "thing-1.0-cp313-cp313-manylinux_2_28_aarch64.whl",
        "thing-1.0-cp313-cp313-win_amd64.whl",
        "thing-1.0-cp313-cp313-macosx_11_0_arm64.whl",
        "thing-1.0-pp311-pypy311_pp73-manylinux_2_28_x86_64.whl",
        "thing-2.0-py3-none-any.whl",
        "other-1.0-py3-none-any.whl",
    ],
)
def test_incompatible_files_are_not_chosen(links, other):
    assert best(links(other)) is None
    assert best(links(SDIST)) == SDIST


def test_target_decides_compatibility_and_not_the_host(links):
    folder = links(CP313, "thing-1.0-cp311-cp311-manylinux_2_28_aarch64.whl", SDIST)
    assert best(folder, Target(python="3.11", glibc="2.36", arch="aarch64")).startswith("thing-1.0-cp311")
    assert best(folder, Target(python="3.11", glibc="2.36", arch="x86_64")) == SDIST
    assert best(folder, Target(python="3.13", glibc="2.27", arch="x86_64")) == SDIST


def test_only_files_with_an_allowed_hash_count(links):
    folder = links(CP313, NONE)
    assert best(folder, hashes=(FileHash.of(NONE.encode()),)) == NONE
    assert best(folder, hashes=(FileHash.of(b"none of them"),)) is None


def test_local_index_gives_hashes_yanked_and_requires_python(tmp_path):
    page = tmp_path / "simple/thing"
    page.mkdir(parents=True)
    digest = FileHash.of(b"x")
    (page / "index.html").write_text(
        f'<a href="{NONE}#sha256={digest.hex}" data-yanked="bad">x</a>'
        f'<a href="{CP313}#sha256={digest.hex}" data-requires-python="&gt;=3.14">x</a>'
    )
    found = indexes(no_index=False, index=(tmp_path / "simple").as_uri()).find_pinned(pin_of([digest]))
    assert (found.file, found.sha256) == (NONE, digest)


def test_file_is_found_by_name_with_matching_hash_first(tmp_path):
    one, two = FileHash.of(b"1"), FileHash.of(b"2")
    for name, digest in (("a", one), ("b", two)):
        page = tmp_path / name / "thing"
        page.mkdir(parents=True)
        (page / "index.html").write_text(f'<a href="{NONE}#sha256={digest.hex}">x</a>')
    both = indexes(no_index=False, index=(tmp_path / "a").as_uri(), extra=((tmp_path / "b").as_uri(),))
    found = both.find_file(Artifact(name="Thing", version="1.0", file=NONE, sha256=one))
    assert found[0].sha256 == one
    assert both.find_file(Artifact(name="thing", version="1.0", file="gone.whl", sha256=one)) == ()


def test_tags_of_incompatible_wheels_are_returned(links):
    name = "thing-1.0-cp311-cp311-win_amd64.whl"
    offered = indexes(find_links=(links(name),)).find_offered(pinned(name))
    assert [(file.form, file.tags, file.fits) for file in offered] == [("wheel", "cp311-cp311-win_amd64", False)]


def pinned(*names, form=""):
    return pin_of((FileHash.of(name.encode()) for name in names), form=form)


@pytest.mark.parametrize(("form", "chosen"), [("", NONE), ("wheel", NONE), ("sdist", SDIST)])
def test_only_files_of_an_allowed_form_are_chosen(links, form, chosen):
    folder = links(NONE, SDIST)
    assert indexes(find_links=(folder,)).find_pinned(pinned(NONE, SDIST, form=form)).file == chosen


def test_no_other_form_is_chosen_instead(links):
    found = indexes(find_links=(links(NONE),))
    assert found.find_pinned(pinned(NONE, form="sdist")) is None
    assert found.find_pinned(pinned(NONE, form="wheel")).file == NONE


def write_wheel(folder, version, requires):
    path = folder / f"thing-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        lines = f"Metadata-Version: 2.1\nName: thing\nVersion: {version}\nRequires-Python: {requires}\n"
        archive.writestr(f"thing-{version}.dist-info/METADATA", lines)


def write_sdist(folder, version, requires):
    text = f"Metadata-Version: 2.1\nName: thing\nVersion: {version}\nRequires-Python: {requires}\n".encode()
    with tarfile.open(folder / f"thing-{version}.tar.gz", "w:gz") as archive:
        entry = tarfile.TarInfo(f"thing-{version}/PKG-INFO")
        entry.size = len(text)
        archive.addfile(entry, io.BytesIO(text))


@pytest.mark.parametrize("write", [write_wheel, write_sdist])
@pytest.mark.parametrize(
    ("requires", "chosen"), [("<3.13", "1.0"), (">=3.14", "1.0"), ("nonsense", "1.0"), ("<4", "2.0")]
)
def test_files_of_find_links_say_which_python_they_need(tmp_path, write, requires, chosen):
    write(tmp_path, "1.0", ">=3.8")
    write(tmp_path, "2.0", requires)
    assert indexes(find_links=(str(tmp_path),)).find_first("thing", ">=1").version == chosen


def test_tags_never_come_from_the_host():
    tags = {
        str(tag) for tag in make_target_python(Target(python="3.12", glibc="2.36", arch="aarch64")).supported_tags()
    }
    assert "cp312-cp312-manylinux_2_36_aarch64" in tags
    assert "cp312-abi3-manylinux_2_17_aarch64" in tags
    assert "py3-none-any" in tags
    assert not [tag for tag in tags if "x86_64" in tag or "cp313" in tag]


def test_a_free_threaded_host_changes_nothing(monkeypatch):
    before = make_target_python(TARGET).supported_tags()
    monkeypatch.setattr("sysconfig.get_config_var", lambda _name: 1)
    make_target_python.cache_clear()
    assert make_target_python(TARGET).supported_tags() == before


def test_extra_indexes_do_not_replace_the_default_one():
    session = HttpSession(PackageSources(pip=IndexSettings(), uv=IndexSettings()), RetryPolicy(threading.Event()))

    def urls(**settings):
        finder = make_finder(PackageSources(pip=IndexSettings(**settings), uv=IndexSettings()), session, TARGET)
        return [source["url"] for source in finder.sources]

    assert urls() == [default_index()]
    assert urls(extra=("https://a.example/s",)) == ["https://a.example/s", default_index()]
    assert urls(index="https://m.example/s") == ["https://m.example/s"]
    assert urls(no_index=True) == []


def test_unknown_size_of_a_file_is_a_failed_download(monkeypatch):
    import httpx2

    def refuse(*_args, **_more):
        raise httpx2.ReadError("reset")

    asked = HttpSession(PackageSources(pip=IndexSettings(), uv=IndexSettings()), RetryPolicy(threading.Event()))
    monkeypatch.setattr(asked, "head", lambda *_args, **_more: httpx2.Response(501))
    monkeypatch.setattr(asked, "get_stream", refuse)
    with pytest.raises(FetchError, match=r"index\.example"):
        asked.find_size("https://index.example/a.whl")


@pytest.mark.network
def test_default_index_is_reachable(tmp_path):
    import os

    from buildkit.tools.index_settings import load_sources

    sources = load_sources(tmp_path, {**os.environ, "PIP_CONFIG_FILE": "/dev/null", "PIP_FIND_LINKS": ""})
    asked = Indexes(sources, HttpSession(sources, RetryPolicy(threading.Event())), TARGET)
    found = asked.find_first("cryptography", "==44.0.0")
    assert found.file == "cryptography-44.0.0-cp39-abi3-manylinux_2_28_x86_64.whl"
    assert asked.session.find_size(found.url) == 4_155_160
    asked.session.close()


def page_of(folder, *versions):
    """An index in a folder; returns its URL."""
    (folder / "thing").mkdir(parents=True)
    links = "".join(f'<a href="thing-{version}-py3-none-any.whl#sha256={"0" * 64}">x</a>' for version in versions)
    (folder / "thing/index.html").write_text(links)
    return folder.as_uri()


def first_of(uv, pip=None, name="thing", specifier=""):
    sources = PackageSources(pip=pip or IndexSettings(), uv=uv)
    found = Indexes(sources, HttpSession(sources, RetryPolicy(threading.Event())), TARGET).find_first(name, specifier)
    return found.version if found else None


def test_unpinned_project_comes_from_the_first_index_that_has_it(tmp_path):
    """Whoever publishes a higher version of a private project's name elsewhere must not win."""
    private, public = page_of(tmp_path / "private", "1.0"), page_of(tmp_path / "public", "99.0")
    (tmp_path / "empty").mkdir()
    empty = (tmp_path / "empty").as_uri()
    both = IndexSettings(extra=(empty, private), index=public)
    assert first_of(both) == "1.0"
    assert first_of(both, specifier=">=2") is None
    assert first_of(IndexSettings(extra=(private,), index=public, strategy="unsafe-best-match")) == "99.0"
    assert first_of(IndexSettings(), IndexSettings(index=private, extra=(public,))) == "99.0"


def test_index_for_explicit_sources_gives_no_unpinned_project(tmp_path):
    explicit, public = page_of(tmp_path / "explicit", "99.0"), page_of(tmp_path / "public", "1.0")
    uv = IndexSettings(explicit=(explicit,), index=public)
    assert first_of(uv) == "1.0"
    assert first_of(replace(uv, strategy="unsafe-best-match")) == "1.0"
    sources = PackageSources(pip=IndexSettings(), uv=uv)
    pinned = Indexes(sources, HttpSession(sources, RetryPolicy(threading.Event())), TARGET)
    assert pinned.find_pinned(pin_of([FileHash("0" * 64)], "99.0")).version == "99.0"


def test_index_for_explicit_sources_is_not_asked_for_what_another_has(tmp_path):
    explicit, public = page_of(tmp_path / "explicit", "99.0"), page_of(tmp_path / "public", "1.0")
    sources = PackageSources(pip=IndexSettings(), uv=IndexSettings(explicit=(explicit,), index=public))
    session, asked = HttpSession(sources, RetryPolicy(threading.Event())), []
    get, session.get = session.get, lambda url, **more: asked.append(url) or get(url, **more)
    found = Indexes(sources, session, TARGET).find_pinned(pin_of([FileHash("0" * 64)], "1.0"))
    assert found.version == "1.0"
    assert asked == [f"{public}/thing/index.html"]


def test_find_links_count_with_the_first_index(tmp_path):
    (tmp_path / "links").mkdir()
    (tmp_path / "links/thing-2.0-py3-none-any.whl").write_bytes(b"x")
    private = page_of(tmp_path / "private", "1.0")
    assert first_of(IndexSettings(index=private, find_links=(str(tmp_path / "links"),))) == "2.0"
    assert first_of(IndexSettings(no_index=True, find_links=(str(tmp_path / "links"),))) == "2.0"


@pytest.mark.parametrize("requires", [">=2.*", "<4.*", ">=3.8+local"])
def test_old_specifiers_of_others_are_read_without_a_warning(requires):
    """unearth warns as it reads an index's page, once a file."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        fix_legacy_specifier(requires)
        assert len(said) == 1, "as unearth does by itself"
        indexes()
        fix_legacy_specifier(requires)
    assert len(said) == 1
