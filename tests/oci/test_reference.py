"""References to images in registries: valid and invalid ones, in agreement with skopeo."""

from __future__ import annotations

import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from buildkit.digest import Digest
from buildkit.errors import DefinitionError
from buildkit.oci.reference import Ref, parse_ref, parse_repository

HEX = "0123456789abcdef" * 4
LABEL = st.from_regex(r"[a-z0-9](?:[a-z0-9-]{0,6}[a-z0-9])?", fullmatch=True)
HOSTS = st.builds(
    lambda labels, port: ".".join(labels) + (f":{port}" if port else ""),
    st.lists(LABEL, min_size=2, max_size=3),
    st.none() | st.integers(1, 65535),
)
PATHS = st.lists(
    st.from_regex(r"[a-z0-9]{1,3}(?:(?:[._]|__|-{1,3})[a-z0-9]{1,3})?", fullmatch=True), min_size=1, max_size=3
)
TAGS = st.just("") | st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)
DIGESTS = st.none() | st.binary(max_size=3).map(Digest.of)
REFS = st.builds(
    lambda host, path, tag, digest: Ref(host=host, path="/".join(path), tag=tag, digest=digest),
    HOSTS,
    PATHS,
    TAGS,
    DIGESTS,
)


@pytest.mark.parametrize(
    ("text", "host", "path", "tag", "digest"),
    [
        ("ghcr.io/me/app", "ghcr.io", "me/app", "", None),
        ("ghcr.io/me/app:1.0", "ghcr.io", "me/app", "1.0", None),
        ("127.0.0.1:5000/a", "127.0.0.1:5000", "a", "", None),
        ("localhost/a/b/c:x_Y.z-", "localhost", "a/b/c", "x_Y.z-", None),
        ("[::1]:5000/a:b", "[::1]:5000", "a", "b", None),
        (f"Registry.Example.org/a@sha256:{HEX}", "Registry.Example.org", "a", "", Digest(HEX)),
        (f"a.b:65535/a__b/c---d:t@sha256:{HEX}", "a.b:65535", "a__b/c---d", "t", Digest(HEX)),
        ("a.b/c:" + "t" * 128, "a.b", "c", "t" * 128, None),
    ],
)
def test_reference_has_host_path_tag_and_digest(
    text: str, host: str, path: str, tag: str, digest: Digest | None
) -> None:
    ref = parse_ref(text, "it")
    assert (ref.host, ref.path, ref.tag, ref.digest) == (host, path, tag, digest)
    assert str(ref) == text
    assert ref.repository == f"{host}/{path}"


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "a", "/", "a.b", "a.b/", "a.b//c", "a.b/c/", "a.b/c//d", "/a.b/c", "a.b/c:", "a.b/c@", "a.b/c:d:e",
        "a.b/C", "a.b/Ü", "a.b/c d", " a.b/c", "a.b/c\n", "a.b/c:d\n", "a.b/c___d", "a.b/c.-d", "a.b/-c", "a.b/c-",
        "a.b/c:.d", "a.b/c:-d", "a.b/c:ä", "a..b/c", "a-.b/c", ".a/c", "a.b:/c", "a.b:x/c", "a.b:123456/c", "a.b:0/c",
        "a.b:99999/c", "https://a.b/c", "docker://a.b/c", "a.b/c@sha256:12", f"a.b/c@sha512:{HEX}",
        f"a.b/c@sha256:{HEX.upper()}", f"a.b/c@sha256:{HEX}0", "a.b/../c", "a.b/./c", "a.b/c:" + "t" * 129,
        "a.b/" + "c" * 252, "me/app", "app:1.0", "library/app", "--tls-verify=false", "a.b/c\x1b[31m", "a.b/c:d\0",
    ],
)  # fmt: skip
def test_invalid_reference_is_refused_with_an_example(text: str) -> None:
    words = r"(?s)^--cache: `.*`.*(?: is not a name in a| names no) registry"
    with pytest.raises(DefinitionError, match=words) as caught:
        parse_ref(text, "--cache")
    assert "ghcr.io/me/app:1.0" in caught.value.hint
    assert len(caught.value.message) < 300


@given(REFS)
def test_reference_is_parsed_as_it_was_formatted(ref: Ref) -> None:
    assert parse_ref(str(ref), "it") == ref


@given(st.text(max_size=60) | st.from_regex(r"[a-z.:/@\[\]A-Z0-9_-]{1,40}", fullmatch=True))
def test_any_text_is_a_reference_or_is_refused(text: str) -> None:
    with suppress(DefinitionError):
        assert str(parse_ref(text, "it")) == text


@pytest.mark.parametrize("tag", ["", ".a", "-a", "a b", "a/b", "a:b", "ä", "a\n", "t" * 129])
def test_invalid_tag_is_refused(tag: str) -> None:
    with pytest.raises(DefinitionError, match="is not a valid tag") as caught:
        parse_ref("a.b/c", "it").tagged(tag)
    assert "128" in caught.value.hint


def test_tagged_replaces_tag_and_digest() -> None:
    assert str(parse_ref(f"a.b/c:d@sha256:{HEX}", "it").tagged("e")) == "a.b/c:e"


@pytest.mark.parametrize("text", ["a.b/c:d", f"a.b/c@sha256:{HEX}"])
def test_repository_with_tag_or_digest_is_refused(text: str) -> None:
    assert str(parse_repository("a.b/c", "it")) == "a.b/c"
    with pytest.raises(DefinitionError, match=r"^it: .* must be a repository$") as caught:
        parse_repository(text, "it")
    assert caught.value.hint == "remove the tag: a.b/c"


@pytest.mark.tools
@settings(max_examples=60)
@given(
    REFS | st.from_regex(r"[a-z0-9.]{1,5}(:[0-9]{1,5})?/[a-zA-Z0-9._/-]{1,8}(:[a-zA-Z0-9._-]{1,5})?", fullmatch=True)
)
def test_references_are_accepted_exactly_if_skopeo_accepts_them(ref: Ref | str) -> None:
    text = str(ref)
    host, _, rest = text.partition("/")
    assume("." in host.partition(":")[0] or ":" in host)  # else it is of Docker's, which a name must say here
    assume(0 < int(host.partition(":")[2] or 1) < 65536)  # skopeo finds that out later
    assume(not ("@" in rest and ":" in rest.partition("@")[0]))  # it takes one of the two
    argv = ("skopeo", "--insecure-policy", "copy", "dir:/nonexistent", f"docker://{text}")
    errors = subprocess.run(argv, capture_output=True, text=True, cwd=Path("/")).stderr
    taken = "Invalid destination name" not in errors
    assert taken or "invalid reference format" in errors, errors
    try:
        parse_ref(text, "it")
        ours = True
    except DefinitionError:
        ours = False
    assert ours == taken, text
