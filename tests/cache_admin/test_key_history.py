"""why KEY: prefixes of keys, digests, diff_ids and hashes, and names, to all that is known."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from buildkit.digest import DiffId, Digest, FileHash, Key
from tests.cache_admin.stocked import Stocked

Ask = Callable[..., Any]
Read = Callable[..., tuple[str, str]]


def record(stocked: Stocked, key: Key, source: str, why: str) -> None:
    layer = {"name": "app/app", "key": str(key), "source": source, "why": why}
    report = json.dumps({"layers": [layer]}, separators=(",", ":"))
    with closing(stocked.ledger()) as ledger:
        ledger.database.put("builds", ("app", "localhost/p/app:latest", "d", 1_700_000_000.0, 1.0, report))


def test_why_finds_a_layer_by_any_of_its_hashes(stocked: Stocked, ask: Ask) -> None:
    key = stocked.layer("app/app", b"application", seconds=0.25)
    record(stocked, key, "built", "first build")
    record(stocked, key, "cache", "")
    for hash_ in (key, Digest.of(b"application"), DiffId.of(b"unpacked application")):
        for text in (str(hash_), hash_.hex, hash_.hex[:9], hash_.hex[:9].upper()):
            (found,) = ask("why", text)
            assert (found["name"], found["key"], found["needed_by"]) == ("app/app", str(key), [])
    assert found["recipe"]["kind"] == "files"
    assert found["blobs"] == [
        {
            "digest": str(Digest.of(b"application")),
            "diff_id": str(DiffId.of(b"unpacked application")),
            "size": 11,
            "unpacked": 110,
            "compression": "zstd",
        }
    ]
    assert [(part["source"], part["why"]) for part in found["builds"]] == [("cache", ""), ("built", "first build")]


def test_why_describes_a_layer_as_text(stocked: Stocked, read: Read) -> None:
    key = stocked.layer("app/app", b"application", days=3)
    record(stocked, key, "built", "main.py changed")
    out, _ = read("why", "app/app")
    assert out.splitlines()[0] == "app/app (files)"
    assert f"key       {key.hex}" in out
    assert "state     not needed" in out
    assert "(3 d ago)" in out
    assert "once, in 1.0 s" in out
    assert "localhost/p/app:latest: built: main.py changed" in out
    assert "1 file of the repository at /x\n  app/app\n" in out
    assert '"target": "/x"' in out


def test_why_reports_an_evicted_layer(stocked: Stocked, ask: Ask, read: Read) -> None:
    key = stocked.layer("app/app", b"application")
    ask("gc")
    (found,) = ask("why", key.short)
    assert (found["state"], found["gone"]["why"]) == ("gone", "evicted by gc")
    assert "gone      evicted by gc on 20" in read("why", key.short)[0]


def test_why_reports_a_needed_layer_that_is_gone(stocked: Stocked, read: Read) -> None:
    key = stocked.root("base", b"debian")
    stocked.blob(b"debian").unlink()
    assert "state     missing; needed by base\n" in read("why", key.short)[0]


def test_why_reports_a_needed_key_that_was_never_built(stocked: Stocked, ask: Ask, read: Read) -> None:
    (found,) = ask("why", "base/image")
    assert (found["state"], found["needed_by"], found["recipe"]["kind"]) == ("unmade", ["base"], "image")
    nothing = {"gone": None, "size": 0, "seconds": None, "built": None, "used": None, "times": 0, "blobs": []}
    assert found | nothing == found
    out, _ = read("why", found["key"][7:15])
    assert "not made yet; needed by base" in out
    assert "an image of a registry" in out


def test_why_json_has_the_same_fields_for_unbuilt_layers(stocked: Stocked, ask: Ask) -> None:
    (unmade,) = ask("why", "base/image")
    stocked.root("base", b"debian")
    (made,) = ask("why", "base/image")
    assert made["key"] == unmade["key"]
    assert (made["state"], unmade["state"]) == ("present", "unmade")
    assert list(made) == list(unmade)
    (thing,) = ask("ls")["things"]
    assert thing.items() <= made.items()


def test_why_name_means_the_needed_version_and_lists_others(stocked: Stocked, read: Read) -> None:
    stocked.root("base", b"debian")
    other = stocked.layer("base/image", b"another")
    out, _ = read("why", "base/image")
    assert "needed by base" in out.partition("other versions of it:")[0]
    assert other.hex[:12] in out.partition("other versions of it:")[2]


def test_why_ambiguous_prefix_prints_a_list(stocked: Stocked, read: Read, ask: Ask) -> None:
    one = stocked.layer("a/x", b"same")
    two = stocked.layer("b/x", b"same")
    digest = Digest.of(b"same").hex[:8]
    out, _ = read("why", digest)
    assert out.startswith(f"`{digest}` may be:\n")
    assert all(text in out for text in (one.short, two.short, "a/x", "b/x"))
    assert len(ask("why", digest)) == 2


def test_why_finds_downloads_and_compiled_wheels(stocked: Stocked, read: Read, ask: Ask) -> None:
    key = stocked.wheel("fast", b"compiled", seconds=9)
    stocked.download("x.whl", b"downloaded")
    out, _ = read("why", key.hex[:6])
    assert "a wheel of fast, compiled from its sdist" in out
    assert "in 9.0 s" in out
    out, _ = read("why", FileHash.of(b"downloaded").hex[:10])
    assert "x.whl (download)" in out
    assert f"files/{FileHash.of(b'downloaded').hex}/x.whl (10 B)" in out


@pytest.mark.parametrize("asked", ["abc", "beefbeef", "no/such", "", "sha256:"])
def test_why_rejects_an_unknown_key(stocked: Stocked, read: Read, asked: str) -> None:
    stocked.layer("app/app", b"application")
    _, errors = read("why", asked, code=2)
    assert f"nothing here is called `{asked}`" in errors
    assert "at least four digits" in errors
