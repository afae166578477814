"""New layers of an image that this machine pushed last go up while they are packed; all others are asked for first."""

from __future__ import annotations

import pytest

from tests.e2e.machines import (
    digest,
    forget,
    interrupt_when,
    is_there,
    pull,
    read_manifest,
    sources,
    succeeded,
    uploaded,
)
from tests.e2e.tinyproject import SessionResult, Tiny, one_error
from tests.faultyproxy import Fault, FaultyProxy

pytestmark = pytest.mark.tools

_STREAM = "from buildkit.remote import layer_stream; layer_stream.MIN_STREAM_BYTES = 1; "  # tiny layers, too
_REFUSE = (
    "from buildkit.build import layer_writer; from buildkit.errors import ModelError; "
    "layer_writer.LayerOutput.keep = lambda *_: (_ for _ in ()).throw(ModelError('refused at last')); "
)


@pytest.fixture
def repo(tiny: Tiny, proxy: FaultyProxy, repo: str) -> str:
    """The same, to which this machine has pushed."""
    succeeded(tiny.run("push-app", repo))
    proxy.clear()
    return repo


def push(tiny: Tiny, *arguments: str, code: str = _STREAM) -> SessionResult:
    with tiny.after(code):
        return tiny.run("push-app", *arguments)


def change(tiny: Tiny, words: str) -> None:
    tiny.write("stages/app/app/main.sh", f'echo "$GREETING {words}"\n')


def streamed(proxy: FaultyProxy) -> int:
    """Bytes that went up before their digest was known."""
    return sum(one.up for one in proxy.requests if "chunked" in one.headers.get("transfer-encoding", ""))


def test_changed_layer_goes_up_while_it_is_packed(tiny: Tiny, other: Tiny, proxy: FaultyProxy, repo: str) -> None:
    change(tiny, "streamed")
    ended = succeeded(push(tiny, repo))
    (layer,) = (layer for layer in ended.report["layers"] if layer["source"] == "built")
    assert streamed(proxy) == layer["size"]
    assert uploaded(proxy) == ended.report["bytes"]["pushed"]  # each byte once
    assert pull(other, repo) == "hello streamed\n"
    # the same image as without it
    change(other, "streamed")
    assert digest(succeeded(other.run("push-app", f"{repo}/whole"))) == digest(ended)


def test_same_build_elsewhere_sends_nothing_that_is_there(other: Tiny, proxy: FaultyProxy, repo: str) -> None:
    ended = succeeded(push(other, f"{repo}:elsewhere"))
    assert len(ended.built()) == 9
    assert streamed(proxy) == 0
    assert uploaded(proxy) < 3000


def test_layer_is_asked_for_first_where_another_machine_has_pushed_since(
    tiny: Tiny, other: Tiny, proxy: FaultyProxy, repo: str
) -> None:
    change(other, "of another")
    succeeded(other.run("push-app", repo))
    change(tiny, "of another")
    proxy.clear()
    ended = succeeded(push(tiny, repo))
    assert list(ended.built()) == ["app/app"]
    assert (streamed(proxy), uploaded(proxy)) == (0, 0)


@pytest.mark.parametrize(
    ("method", "fault"),
    [
        ("POST", Fault(status=405)),
        ("PATCH", Fault(status=411)),
        ("PATCH", Fault(cut_up=1)),
        ("PATCH", Fault(cut_down=0)),
        ("PUT", Fault(status=503)),
    ],
)
def test_stream_that_fails_is_sent_again(
    tiny: Tiny, other: Tiny, proxy: FaultyProxy, repo: str, method: str, fault: Fault
) -> None:
    change(tiny, f"{method} {fault.status}")
    proxy.fault(method, "/uploads/", fault, times=1)
    ended = succeeded(push(tiny, repo))
    assert ended.report["bytes"]["pushed"] == uploaded(proxy)  # what was sent in vain counts
    assert pull(other, repo) == f"hello {method} {fault.status}\n"


def test_layer_that_is_refused_at_last_is_no_blob(tiny: Tiny, proxy: FaultyProxy, repo: str) -> None:
    change(tiny, "refused")
    assert "refused at last" in one_error(push(tiny, repo, code=_STREAM + _REFUSE), 1)
    assert [one.status for one in proxy.requests if one.method == "DELETE"] == [204]
    assert proxy.count("PUT") == 0


def test_interrupted_stream_leaves_nothing(tiny: Tiny, proxy: FaultyProxy, repo: str) -> None:
    change(tiny, "interrupted")
    proxy.fault("PATCH", "/uploads/", Fault(delay=3600))
    with tiny.after(_STREAM):
        ended = interrupt_when(tiny, ("push-app", repo), lambda: proxy.count("PATCH") > 0)
    assert ended.code == 130, ended.text
    assert "Traceback" not in ended.text
    proxy.clear()
    assert is_there(tiny, repo)
    assert len(read_manifest(tiny, repo)["layers"]) == 9
    succeeded(push(tiny, repo))


def test_layer_that_the_remote_cache_lacks_goes_up_while_it_is_packed(
    tiny: Tiny, other: Tiny, proxy: FaultyProxy, repo: str
) -> None:
    cache = ("--cache-write", f"{repo}/cache")
    succeeded(push(tiny, f"{repo}/cached", *cache))
    assert streamed(proxy) == 0  # an empty cache says nothing of what the registry has
    forget(tiny)
    change(tiny, "of a fresh runner")
    proxy.clear()
    ended = succeeded(push(tiny, f"{repo}/cached", *cache))
    (layer,) = (layer for layer in ended.report["layers"] if layer["source"] == "built")
    assert streamed(proxy) == layer["size"]
    assert set(sources(ended).values()) == {"built", "shared"}
    assert pull(other, f"{repo}/cached") == "hello of a fresh runner\n"
    proxy.clear()
    forget(tiny)
    again = succeeded(push(tiny, f"{repo}/cached", *cache))
    assert set(sources(again).values()) == {"shared"}
    assert digest(again) == digest(ended)
