"""Downloads from a real server on loopback that drops connections, sends wrong bytes, and requires credentials."""

import hashlib
import os
import ssl
import subprocess
import threading
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest
from fileserver import BODY, HASH, NAME, Server

from buildkit.build.fetch import ExpectedFile, Fetcher
from buildkit.declare.target import Target
from buildkit.errors import BuildError, DefinitionError, FetchError, Interrupted, MismatchError
from buildkit.locks.pins import Artifact
from buildkit.tools.http import HttpSession, RetryPolicy
from buildkit.tools.index_settings import IndexSettings, PackageSources
from buildkit.tools.indexes import Indexes

TARGET = Target(python="3.13", glibc="2.41", arch="x86_64")
PIN = Artifact(name="thing", version="1.0", file=NAME, sha256=HASH, size=len(BODY))


@pytest.fixture
def server():
    made = Server()
    thread = threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()


@contextmanager
def fetching(*, index="", find_links=(), stop=None, cert=""):
    links = tuple(map(str, find_links))
    sources = PackageSources(
        pip=IndexSettings(index=index, find_links=links, no_index=not index, cert=cert), uv=IndexSettings()
    )
    retry_policy = RetryPolicy(stop or threading.Event(), unit=0.01)
    session = HttpSession(sources, retry_policy)
    try:
        yield Fetcher(session, Indexes(sources, session, TARGET), retry_policy)
    finally:
        session.close()


@pytest.fixture(autouse=True)
def _no_settings_of_this_host(monkeypatch, tmp_path_factory):
    for name in [*os.environ]:
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path_factory.mktemp("home") / "netrc"))


def ignore(_done):
    pass


def get(server, into, artifact=PIN, progress=ignore):
    with fetching(index=f"{server.url}/simple/") as fetcher:
        fetcher.fetch(artifact, into, progress=progress)


def assert_only(folder, *names):
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)


def test_fetch_verifies_the_file_and_reports_progress(server, tmp_path):
    done = []
    get(server, tmp_path / "blobs" / "one", progress=done.append)
    assert (tmp_path / "blobs" / "one").read_bytes() == BODY
    assert done == sorted(done)
    assert done[-1] == len(BODY)
    assert_only(tmp_path / "blobs", "one")


def test_dropped_download_resumes_where_it_stopped(server, tmp_path):
    server.script = ["drop", "drop"]
    get(server, tmp_path / "one")
    assert (tmp_path / "one").read_bytes() == BODY
    ranges = [wanted for path, wanted, _ in server.requests if path.startswith("/files/")]
    assert ranges[0] == ""
    starts = [int(wanted.removeprefix("bytes=").rstrip("-")) for wanted in ranges[1:]]
    assert starts == [700_000, 1_400_000]


def test_dropped_download_restarts_if_the_server_has_no_ranges(server, tmp_path):
    server.script, server.ranges = ["drop"], False
    done = []
    get(server, tmp_path / "one", progress=done.append)
    assert (tmp_path / "one").read_bytes() == BODY
    assert done[-1] == len(BODY)


def test_file_that_changed_between_requests_is_fetched_again(server, tmp_path):
    server.script = ["drop", "wrong", "whole"]
    get(server, tmp_path / "one")
    assert (tmp_path / "one").read_bytes() == BODY


def test_download_with_progress_may_drop_any_number_of_times(server, tmp_path):
    server.script = ["crumb"] * 12
    get(server, tmp_path / "one")
    assert (tmp_path / "one").read_bytes() == BODY


def test_download_without_progress_is_given_up(server, tmp_path):
    server.script = ["wrong crumb"] * 100
    with pytest.raises(MismatchError):
        get(server, tmp_path / "one")
    assert len(server.requests) < 60


def test_fetch_follows_redirects(server, tmp_path):
    with fetching(index=f"{server.url}/moved/simple/") as fetcher:
        fetcher.fetch(PIN, tmp_path / "one", progress=ignore)
    assert (tmp_path / "one").read_bytes() == BODY


@pytest.mark.tools
def test_fetch_checks_certificates_and_accepts_a_configured_authority(server, tmp_path):
    cert = tmp_path / "ca/cert.pem"
    cert.parent.mkdir()
    key = tmp_path / "ca/key.pem"
    argv = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost",
            "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]  # fmt: skip
    subprocess.run(argv, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    index = server.url.replace("http:", "https:") + "/simple/"
    with fetching(index=index) as fetcher, pytest.raises(FetchError, match="is not trusted") as caught:
        fetcher.fetch(PIN, tmp_path / "one", progress=ignore)
    assert "SSL_CERT_FILE" in caught.value.hint
    with fetching(index=index, cert=str(cert)) as fetcher:
        fetcher.fetch(PIN, tmp_path / "one", progress=ignore)
    assert (tmp_path / "one").read_bytes() == BODY
    missing = pytest.raises(DefinitionError, match="no such certificate file")
    with fetching(index=index, cert="/nowhere.pem") as fetcher, missing:
        fetcher.fetch(PIN, tmp_path / "two", progress=ignore)
    (tmp_path / "other.pem").write_text("no certificate")
    wrong = pytest.raises(DefinitionError, match=r"other\.pem: not certificates in PEM")
    with fetching(index=index, cert=str(tmp_path / "other.pem")) as fetcher, wrong:
        fetcher.fetch(PIN, tmp_path / "two", progress=ignore)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_fetch_retries_a_busy_server(server, tmp_path, status):
    server.script = [status, status]
    get(server, tmp_path / "one")
    assert (tmp_path / "one").read_bytes() == BODY


def test_fetch_retries_a_busy_index(server, tmp_path):
    server.script = ["page 503", "page 503"]
    get(server, tmp_path / "one")
    assert (tmp_path / "one").read_bytes() == BODY


def test_fetch_gives_up_on_a_server_that_keeps_failing(server, tmp_path):
    server.script = [503] * 50
    with pytest.raises(FetchError, match=r"127\.0\.0\.1:\d+ answered 503"):
        get(server, tmp_path / "one")
    assert len([one for one in server.requests if one[0].startswith("/files/")]) == 5
    assert_only(tmp_path)


def test_fetch_does_not_retry_a_missing_file(server, tmp_path):
    server.script = [404] * 9
    with pytest.raises(FetchError, match="answered 404"):
        get(server, tmp_path / "one")
    assert len([one for one in server.requests if one[0].startswith("/files/")]) == 1


def test_wrong_bytes_leave_no_file_and_the_error_names_pin_and_both_hashes(server, tmp_path):
    server.script = ["wrong"]
    wrong = hashlib.sha256(b"x" * len(BODY)).hexdigest()
    (tmp_path / "one").write_bytes(b"before")
    with pytest.raises(MismatchError) as caught:
        get(server, tmp_path / "one")
    for word in ("thing==1.0", HASH.hex, wrong):
        assert word in str(caught.value)
    assert (tmp_path / "one").read_bytes() == b"before"
    assert_only(tmp_path, "one")


def test_file_is_not_downloaded_if_the_index_lists_another_hash(server, tmp_path):
    server.page_hash = "0" * 64
    with pytest.raises(MismatchError, match="0" * 64):
        get(server, tmp_path / "one")
    assert not [one for one in server.requests if one[0].startswith("/files/")]


def test_more_bytes_than_the_locked_size_are_refused(server, tmp_path):
    short = Artifact(name="thing", version="1.0", file=NAME, sha256=HASH, size=1000)
    with pytest.raises(MismatchError, match="more than the 1000 bytes"):
        get(server, tmp_path / "one", short)
    assert_only(tmp_path)


def test_error_names_a_pin_that_no_index_has(server, tmp_path):
    server.page = False
    with pytest.raises(FetchError, match=r"no index and no find-links has thing==1\.0"):
        get(server, tmp_path / "one")


def test_fetch_without_network_fails(tmp_path):
    cannot = pytest.raises(FetchError, match=r"cannot download from 127\.0\.0\.1:9")
    with fetching(index="http://127.0.0.1:9/simple/") as fetcher, cannot as caught:
        fetcher.fetch(PIN, tmp_path / "one", progress=ignore)
    assert "network" in caught.value.hint


def test_credentials_from_netrc_are_used_and_never_printed(server, tmp_path, monkeypatch):
    server.password = "secret"
    with pytest.raises(FetchError) as caught:
        get(server, tmp_path / "one")
    assert "credentials" in caught.value.hint
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    get(server, tmp_path / "one")
    assert (tmp_path / "one").read_bytes() == BODY
    server.script = ["wrong"]
    with pytest.raises(MismatchError) as mismatch:
        get(server, tmp_path / "two")
    assert "secret" not in str(mismatch.value) + mismatch.value.hint


def test_credentials_in_the_index_url_are_used_and_never_printed(server, tmp_path):
    server.password = "secret"
    index = server.url.replace("//", "//me:secret@") + "/simple/"
    with fetching(index=index) as fetcher:
        fetcher.fetch(PIN, tmp_path / "one", progress=ignore)
        server.script = [404]
        with pytest.raises(FetchError) as caught:
            fetcher.fetch(PIN, tmp_path / "two", progress=ignore)
    assert "secret" not in str(caught.value) + caught.value.hint
    assert (tmp_path / "one").read_bytes() == BODY


def test_stop_interrupts_a_download_between_chunks(server, tmp_path):
    server.gate, stop = threading.Event(), threading.Event()

    def stop_soon(_done):
        stop.set()
        server.gate.set()

    with fetching(index=f"{server.url}/simple/", stop=stop) as fetcher, pytest.raises(Interrupted):
        fetcher.fetch(PIN, tmp_path / "one", progress=stop_soon)
    assert_only(tmp_path)


def test_stop_interrupts_the_wait_before_a_retry(server, tmp_path):
    server.script, stop = [503] * 9, threading.Event()
    sources = PackageSources(pip=IndexSettings(), uv=IndexSettings())
    retry_policy = RetryPolicy(stop, unit=20)
    session = HttpSession(sources, retry_policy)
    threading.Timer(0.2, stop.set).start()
    with pytest.raises(Interrupted):
        Fetcher(session, Indexes(sources, session, TARGET), retry_policy).hash_url(
            f"{server.url}/files/x", progress=ignore
        )
    session.close()


def test_local_files_are_copied_and_verified(tmp_path):
    links = tmp_path / "links"
    links.mkdir()
    (links / NAME).write_bytes(BODY)
    with fetching(find_links=[links]) as fetcher:
        fetcher.fetch(PIN, tmp_path / "one", progress=ignore)
        assert (tmp_path / "one").read_bytes() == BODY
        assert (tmp_path / "one").stat().st_ino != (links / NAME).stat().st_ino
        (links / NAME).write_bytes(b"y" * len(BODY))
        with pytest.raises(MismatchError, match=r"thing==1\.0"):
            fetcher.fetch(PIN, tmp_path / "two", progress=ignore)
    assert_only(tmp_path, "links", "one")


def test_file_in_a_find_links_folder_needs_no_index(server, tmp_path):
    links = tmp_path / "links"
    links.mkdir()
    (links / NAME).write_bytes(BODY)
    with fetching(index=f"{server.url}/simple/", find_links=[f"{server.url}/page", links]) as fetcher:
        fetcher.fetch(PIN, tmp_path / "one", progress=ignore)
    assert (tmp_path / "one").read_bytes() == BODY
    assert server.requests == []


def test_index_is_asked_if_the_find_links_folder_has_other_bytes(server, tmp_path):
    links = tmp_path / "links"
    links.mkdir()
    (links / NAME).write_bytes(b"y" * len(BODY))
    with fetching(index=f"{server.url}/simple/", find_links=[links]) as fetcher:
        fetcher.fetch(PIN, tmp_path / "one", progress=ignore)
    assert (tmp_path / "one").read_bytes() == BODY
    assert_only(tmp_path, "links", "one")


def test_unreachable_source_does_not_hide_another(tmp_path, server):
    sources = PackageSources(
        pip=IndexSettings(index=f"{server.url}/simple/", extra=("http://127.0.0.1:9/simple/",)), uv=IndexSettings()
    )
    retry_policy = RetryPolicy(threading.Event(), unit=0.01)
    session = HttpSession(sources, retry_policy)
    Fetcher(session, Indexes(sources, session, TARGET), retry_policy).fetch(PIN, tmp_path / "one", progress=ignore)
    session.close()
    assert (tmp_path / "one").read_bytes() == BODY


def test_fetch_url_fetches_and_hashes_model_files(server, tmp_path):
    wanted = ExpectedFile(what="model voice: a.onnx", sha256=HASH, size=len(BODY))
    server.script = ["drop"]
    with fetching(index=f"{server.url}/simple/") as fetcher:
        fetcher.fetch_url(f"{server.url}/files/a.onnx?token=secret", wanted, tmp_path / "one", progress=ignore)
        server.script = ["drop"]
        assert fetcher.hash_url(f"{server.url}/files/a.onnx", progress=ignore) == (HASH, len(BODY))
        server.script = [403]
        with pytest.raises(FetchError) as caught:
            fetcher.fetch_url(f"{server.url}/files/a?token=secret", wanted, tmp_path / "two", progress=ignore)
    assert "secret" not in str(caught.value)
    assert (tmp_path / "one").read_bytes() == BODY


def test_threads_share_a_fetcher(server, tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    server.script = ["drop"] * 4
    with fetching(index=f"{server.url}/simple/") as fetcher, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: fetcher.fetch(PIN, tmp_path / f"{n % 4}", progress=ignore), range(16)))
    assert_only(tmp_path, "0", "1", "2", "3")
    assert all((tmp_path / str(n)).read_bytes() == BODY for n in range(4))


def test_error_names_a_destination_that_cannot_be_written(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BuildError, match="cannot write"):
        get(server, tmp_path / "file" / "one")


def test_full_disk_is_reported_with_a_hint(server, tmp_path, monkeypatch):
    import errno

    def refuse(_handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(BuildError, match="/one: the disk is full") as caught:
        get(server, tmp_path / "one")
    assert "free some room" in caught.value.hint
    assert_only(tmp_path)


@pytest.mark.parametrize("number", ["²", "٣", "-1", "9" * 5000])
def test_headers_that_are_no_number_count_as_absent(server, monkeypatch, number):
    """Such as digits of another script, which only look like one to ``str.isdigit``."""
    with fetching() as fetcher:
        session = fetcher._session
        response = SimpleNamespace(status_code=200, headers={"Content-Length": number}, url="http://h/f")
        monkeypatch.setattr(session, "head", lambda _url, headers: response)
        partial = SimpleNamespace(status_code=206, headers={"Content-Range": f"bytes 0-0/{number}"})
        monkeypatch.setattr(session, "get_stream", lambda _url, headers: nullcontext(partial))
        assert session.find_size("http://h/f") is None
        busy = SimpleNamespace(status_code=503, headers={"Retry-After": number})
        assert session._failed("http://h/f", busy).wait == 0


def test_the_place_in_a_lock_of_another_tool_is_asked_first_and_a_mirror_next(server, tmp_path):
    listed = replace(PIN, place=f"{server.url}/files/elsewhere/{NAME}")
    with fetching() as fetcher:  # no index at all
        fetcher.fetch(listed, tmp_path / "one", progress=ignore)
    assert [path for path, *_ in server.requests] == [f"/files/elsewhere/{NAME}"]
    server.script = [404]
    get(server, tmp_path / "two", artifact=listed)
    assert (tmp_path / "two").read_bytes() == BODY
    server.script = ["wrong"] * 2
    with fetching() as fetcher, pytest.raises(MismatchError):
        fetcher.fetch(listed, tmp_path / "three", progress=ignore)


def test_the_place_may_be_a_file_of_the_repository(tmp_path):
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / NAME).write_bytes(BODY)
    sources = PackageSources(pip=IndexSettings(no_index=True), uv=IndexSettings(), root=tmp_path)
    retry_policy = RetryPolicy(threading.Event())
    session = HttpSession(sources, retry_policy)
    fetcher = Fetcher(session, Indexes(sources, session, TARGET), retry_policy)
    fetcher.fetch(replace(PIN, place=f"wheels/{NAME}"), tmp_path / "out", progress=ignore)
    assert (tmp_path / "out").read_bytes() == BODY
