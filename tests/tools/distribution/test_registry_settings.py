"""Settings of registries: what is read of the files of podman, skopeo and Docker; skopeo itself agrees."""

from __future__ import annotations

import base64
import json
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from buildkit.errors import RegistryError
from buildkit.hostile_json import MalformedError
from buildkit.oci.reference import parse_ref
from buildkit.tools.distribution.connections import HttpResponse, RegistryOrigin, parse_origin
from buildkit.tools.distribution.left_to_skopeo import LeftToSkopeo
from buildkit.tools.distribution.logins import RegistryLogin, find_login
from buildkit.tools.distribution.proxies import Proxy, find_proxy
from buildkit.tools.distribution.registries_conf import AUTH_FILES, check_policy, load_registries_conf
from buildkit.tools.distribution.tokens import parse_challenge, read_token
from buildkit.tools.registry import CLIENT
from tests.faultyproxy import FaultyProxy
from tests.registry import PASSWORD, USER, make_authority, serve_registry
from tests.registryplace import make_image, refusal, registries

REF = parse_ref("registry.example:5000/team/app:one", "it")
HELPERS = (AUTH_FILES,)
_ANY, _NONE_AT_ALL = [{"type": "insecureAcceptAnything"}], [{"type": "reject"}]
_VARIABLES = (
    CLIENT, "REGISTRY_AUTH_FILE", "XDG_CONFIG_HOME", "DOCKER_CONFIG", "CONTAINERS_REGISTRIES_CONF",
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
)  # fmt: skip


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    (folder / ".config/containers").mkdir(parents=True)
    (folder / "runtime/containers").mkdir(parents=True)
    for name in _VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder / "runtime"))
    return folder


def conf(home: Path, text: str, name: str = "registries.conf") -> Path:
    path = home / ".config/containers" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


# what registries.conf says


def registry(**keys: object) -> str:
    lines = "\n".join(f"{key} = {json.dumps(value)}" for key, value in keys.items())
    return f"[[registry]]\n{lines}\n"


def test_longest_prefix_wins_and_drop_ins_replace(home: Path) -> None:
    conf(
        home,
        registry(location="a.example", insecure=True) + registry(prefix="a.example/team", location="a.example/team"),
    )
    conf(home, registry(prefix="*.wild.example", insecure=True), "registries.conf.d/10.conf")
    conf(home, registry(location="b.example", blocked=True), "registries.conf.d/20.conf")
    conf(home, registry(location="b.example", insecure=True), "registries.conf.d/30.conf")
    conf(home, "not toml", "registries.conf.d/README")
    found = load_registries_conf()
    assert found.rule("a.example/x").insecure
    assert found.rule("a.example:5000/x").insecure  # as containers/image has it
    assert not found.rule("a.example/team/app").insecure
    assert found.rule("a.example/teams").insecure
    assert not found.rule("aa.example/x").insecure
    assert found.rule("deep.below.wild.example:5000/x").insecure
    assert not found.rule("wild.example/x").insecure
    assert (found.rule("b.example/x").insecure, found.rule("b.example/x").blocked) == (True, False)


@pytest.mark.parametrize(
    ("keys", "rewritten"),
    [
        ({"location": "a.example"}, False),
        ({"prefix": "a.example", "location": "a.example"}, False),
        ({"prefix": "a.example", "location": "b.example/a"}, True),
    ],
)
def test_registry_that_is_read_elsewhere_is_known(home: Path, keys: dict[str, object], rewritten: bool) -> None:
    conf(home, registry(**keys))
    assert load_registries_conf().rule("a.example/x").rewritten == rewritten
    conf(home, registry(**keys) + '[[registry.mirror]]\nlocation = "m.example"\n')
    assert load_registries_conf().rule("a.example/x").rewritten


@pytest.mark.parametrize(
    "text",
    [
        "[[registry]\n",
        "[registries.search]\nregistries = ['docker.io']\n",
        registry(location="a.example", novel=True),
        registry(location="https://a.example"),
        registry(insecure=True),
        registry(location="a.example", insecure="yes"),
        'registry = "a.example"\n',
        'credential-helpers = "pass"\n',
    ],
)
def test_what_is_not_understood_is_left_to_skopeo(home: Path, text: str) -> None:
    conf(home, text)
    with pytest.raises(LeftToSkopeo, match=r"registries\.conf"):
        load_registries_conf()


def test_explicit_file_replaces_the_users(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    conf(home, registry(location="a.example", insecure=True))
    (tmp_path / "explicit").write_text(registry(location="b.example", insecure=True))
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(tmp_path / "explicit"))
    found = load_registries_conf()
    assert (found.rule("a.example/x").insecure, found.rule("b.example/x").insecure) == (False, True)


@pytest.mark.parametrize(
    ("policy", "why"),
    [
        ({"default": _ANY}, ""),
        ({"default": _NONE_AT_ALL}, "restricts"),
        ({"default": _NONE_AT_ALL, "transports": {"dir": {"": _ANY}}}, ""),
        (
            {"default": _ANY, "transports": {"dir": {"/x": _NONE_AT_ALL}}},
            "restr",
        ),
        ({"default": _ANY, "transports": {"docker": {"": _NONE_AT_ALL}}}, ""),
        ({}, "cannot be read"),
        ([], "cannot be read"),
    ],
)
@pytest.mark.parametrize(("transport", "other"), [("dir", "docker"), ("docker", "dir")])
def test_policy_that_restricts_a_transport_is_left_to_skopeo(
    home: Path, policy: object, why: str, transport: str, other: str
) -> None:
    names = {"dir": transport, "docker": other}
    text = re.sub('"(dir|docker)"', lambda found: f'"{names[found[1]]}"', json.dumps(policy))
    conf(home, text, "policy.json")
    if why:
        with pytest.raises(LeftToSkopeo, match=why):
            check_policy(transport)
    else:
        check_policy(transport)


@pytest.mark.tools
@pytest.mark.parametrize("way", ["ours", "skopeo"])
def test_skopeo_agrees_on_what_is_insecure_and_blocked(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setenv(CLIENT, way)
    (tmp_path / "registry").mkdir()
    make_image(tmp_path / "image", 1)
    with serve_registry(tmp_path / "registry") as host:
        ref = parse_ref(f"{host}/team/app:one", "it")
        for text in (
            registry(location=host, insecure=True),
            registry(location=host) + registry(location=f"{host}/team/app", insecure=True),
            registry(location=host, insecure=True) + registry(location=f"{host}/tea"),
        ):
            conf(home, text)
            registries().push(tmp_path / "image", ref)
        for text in (
            "",
            registry(location=host, insecure=True, blocked=True),
            registry(location=host, insecure=True) + registry(location=f"{host}/team", blocked=True),
        ):
            conf(home, text)
            error = refusal(lambda: registries().push(tmp_path / "image", ref))
            assert "blocked" not in text or "blocked" in error.message


# log-ins


def entry(user: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.mark.parametrize(
    ("auths", "user"),
    [
        ({"registry.example:5000": entry("host", "x"), "registry.example:5000/team": entry("team", "x")}, "team"),
        (
            {"registry.example:5000/team/app": entry("app", "x"), "registry.example:5000/team": entry("team", "x")},
            "app",
        ),
        ({"registry.example:5000": entry("host", "x"), "registry.example:5000/tea": entry("tea", "x")}, "host"),
        ({"registry.example": entry("other", "x")}, ""),
        ({"https://registry.example:5000/v1/": entry("url", "x")}, "url"),
        ({"http://registry.example:5000": entry("url", "x")}, "url"),
        ({"registry.example:5000": {}}, ""),
        ({}, ""),
    ],
)
def test_most_specific_key_is_taken(home: Path, auths: dict[str, object], user: str) -> None:
    (home / "runtime/containers/auth.json").write_text(json.dumps({"auths": auths}))
    login = find_login(REF, HELPERS)
    assert login.user == user
    assert bool(login) == bool(user)


def test_files_are_read_in_order(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = {
        "legacy": ".dockercfg",
        "docker": ".docker/config.json",
        "config": ".config/containers/auth.json",
        "runtime": "runtime/containers/auth.json",
    }
    for user, name in places.items():
        auths = {REF.host: entry(user, "x")}
        (home / name).parent.mkdir(exist_ok=True)
        (home / name).write_text(json.dumps(auths if user == "legacy" else {"auths": auths}))
        assert find_login(REF, HELPERS).user == user
    (home / "explicit").write_text("{}")
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(home / "explicit"))
    assert not find_login(REF, HELPERS)
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(home / "nowhere"))
    assert not find_login(REF, HELPERS)


def test_docker_hub_has_three_names(home: Path) -> None:
    (home / "runtime/containers/auth.json").write_text(
        json.dumps({"auths": {"https://index.docker.io/v1/": entry("hub", "x")}})
    )
    assert find_login(parse_ref("docker.io/library/x:1", "it"), HELPERS).user == "hub"


@pytest.mark.parametrize("text", ["{", "[]", '{"auths": []}', '{"auths": {"registry.example:5000": {"auth": "%%"}}}'])
def test_unreadable_log_ins_are_left_to_skopeo_without_a_word_of_them(home: Path, text: str) -> None:
    (home / "runtime/containers/auth.json").write_text(text)
    with pytest.raises(LeftToSkopeo) as caught:
        find_login(REF, HELPERS)
    assert "%%" not in str(caught.value) + repr(caught.value.__cause__)


def helper(folder: Path, name: str, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir(exist_ok=True)
    path = folder / f"docker-credential-{name}"
    path.write_text(f"#!/bin/sh\nread server\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


_GIVES = 'echo "{\\"ServerURL\\": \\"$server\\", \\"Username\\": \\"of-$server\\", \\"Secret\\": \\"word\\"}"'
_NONE = 'echo "credentials not found in native keychain"; exit 1'


@pytest.mark.parametrize("where", ["helpers", "credHelpers", "credsStore"])
def test_credential_helpers_are_asked(home: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    helper(home / "bin", "test", _GIVES, monkeypatch)
    config = {"credHelpers": {"credHelpers": {REF.host: "test"}}, "credsStore": {"credsStore": "test"}}.get(where, {})
    (home / ".docker").mkdir()
    (home / ".docker/config.json").write_text(json.dumps({"auths": {REF.host: {}}} | config))
    login = find_login(REF, ("test",) if where == "helpers" else HELPERS)
    assert login == RegistryLogin(user=f"of-{REF.host}", password="word")
    assert "word" not in repr(login)


def test_helper_without_a_log_in_lets_the_next_answer(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(home / "bin", "empty", _NONE, monkeypatch)
    helper(home / "bin", "token", _GIVES.replace("of-$server", "<token>"), monkeypatch)
    assert find_login(REF, ("empty", "token")) == RegistryLogin(identity_token="word")
    assert not find_login(REF, ("empty",))


@pytest.mark.parametrize(
    "script", ["echo secret-word; exit 1", "echo secret-word >&2; exit 3", "echo '{\"a\": 1}'", "echo {"]
)
def test_helper_that_fails_is_left_to_skopeo(home: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    helper(home / "bin", "broken", script, monkeypatch)
    with pytest.raises(LeftToSkopeo, match="`broken` failed") as caught:
        find_login(REF, ("broken",))
    assert "secret-word" not in str(caught.value)
    for name in ("absent", "../x"):
        with pytest.raises(LeftToSkopeo):
            find_login(REF, (name,))


@pytest.mark.tools
@pytest.mark.parametrize("way", ["ours", "skopeo"])
@pytest.mark.parametrize("kind", ["host", "team", "helper", "url", "wrong"])
def test_skopeo_agrees_on_log_ins(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str, kind: str
) -> None:
    monkeypatch.setenv(CLIENT, way)
    (tmp_path / "registry").mkdir()
    make_image(tmp_path / "image", 1)
    helper(home / "bin", "good", _GIVES.replace("of-$server", USER).replace("word", PASSWORD), monkeypatch)
    with serve_registry(tmp_path / "registry", password=True) as host:
        conf(home, registry(location=host, insecure=True))
        good, bad = entry(USER, PASSWORD), entry("x", "y")
        value: dict[str, object] = {
            "host": {"auths": {host: good}},
            "team": {"auths": {host: bad, f"{host}/team": good}},
            "helper": {"auths": {host: bad}, "credHelpers": {host: "good"}},
            "url": {"auths": {f"https://{host}/v1/": good}},
            "wrong": {"auths": {f"{host}/team": good, f"{host}/team/app": bad}},
        }[kind]
        (home / "runtime/containers/auth.json").write_text(json.dumps(value))
        ref = parse_ref(f"{host}/team/app:one", "it")
        if kind == "wrong":
            with pytest.raises(RegistryError):
                registries().push(tmp_path / "image", ref)
        else:
            assert registries().push(tmp_path / "image", ref)


# certificates


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyProxy]:
    """A registry behind TLS that wants a client certificate."""
    folder = tmp_path_factory.mktemp("strict")
    (folder / "ca").mkdir()
    authority = make_authority(folder / "ca")
    import ssl

    class Strict(type(authority)):  # type: ignore[misc]
        def server_context(self) -> ssl.SSLContext:
            context: ssl.SSLContext = super().server_context()
            context.load_verify_locations(self.ca)
            context.verify_mode = ssl.CERT_REQUIRED
            return context

    wanting = Strict(ca=authority.ca, certificate=authority.certificate, key=authority.key)
    with serve_registry(folder) as host, FaultyProxy(host, wanting) as proxy:
        proxy.folder = folder  # type: ignore[attr-defined]
        yield proxy


@pytest.mark.tools
@pytest.mark.parametrize("way", ["ours", "skopeo"])
def test_client_certificates_are_sent(
    strict: FaultyProxy, home: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setenv(CLIENT, way)
    certificates = home / ".config/containers/certs.d" / strict.host
    certificates.mkdir(parents=True)
    source: Path = strict.folder / "ca"  # type: ignore[attr-defined]
    (certificates / "ca.crt").write_bytes((source / "ca.crt").read_bytes())
    ref = parse_ref(f"{strict.host}/a/b:c", "it")
    with pytest.raises(RegistryError):
        registries().manifest(ref)
    (certificates / "client.cert").write_bytes((source / "own/server.crt").read_bytes())
    client = registries()
    with pytest.raises(RegistryError, match="key"):  # skopeo reports it, in its own words
        client.manifest(ref)
    assert way == "skopeo" or "client.cert cannot be used" in client.why_skopeo(ref)
    (certificates / "client.key").write_bytes((source / "own/server.key").read_bytes())
    assert registries().manifest(ref) is None


# proxies


@pytest.mark.parametrize(
    ("environment", "target", "port"),
    [
        ({}, ("http", "a.example", 80), 0),
        ({"HTTP_PROXY": "http://p:3128"}, ("http", "a.example", 80), 3128),
        ({"http_proxy": "p:3128"}, ("http", "a.example", 80), 3128),
        ({"HTTP_PROXY": "http://p:3128"}, ("https", "a.example", 443), 0),
        ({"HTTPS_PROXY": "http://p"}, ("https", "a.example", 443), 80),
        ({"HTTP_PROXY": "http://p:1"}, ("http", "127.1.2.3", 80), 0),
        ({"HTTP_PROXY": "http://p:1"}, ("http", "localhost", 80), 0),
        ({"HTTP_PROXY": "http://p:1"}, ("http", "::1", 80), 0),
        ({"HTTP_PROXY": "http://p:1", "NO_PROXY": "*"}, ("http", "a.example", 80), 0),
        ({"HTTP_PROXY": "http://p:1", "NO_PROXY": "b, example"}, ("http", "a.example", 80), 0),
        ({"HTTP_PROXY": "http://p:1", "NO_PROXY": ".example"}, ("http", "A.example.", 80), 0),
        ({"HTTP_PROXY": "http://p:1", "NO_PROXY": "*.example"}, ("http", "a.example", 80), 0),
        ({"HTTP_PROXY": "http://p:1", "NO_PROXY": ".a.example"}, ("http", "a.example", 80), 1),
        ({"HTTP_PROXY": "http://p:1", "NO_PROXY": "xample"}, ("http", "a.example", 80), 1),
        ({"HTTP_PROXY": "http://p:1", "no_proxy": "a.example:81"}, ("http", "a.example", 80), 1),
        ({"HTTP_PROXY": "http://p:1", "no_proxy": "a.example:80"}, ("http", "a.example", 80), 0),
        ({"HTTP_PROXY": "http://p:1", "NO_PROXY": "10.0.0.0/8"}, ("http", "10.2.3.4", 80), 0),
        ({"HTTP_PROXY": "http://p:1", "NO_PROXY": "10.2.3.4:80"}, ("http", "10.2.3.4", 80), 0),
        ({"HTTP_PROXY": "http://p:1", "NO_PROXY": "10.0.0.0/8"}, ("http", "11.2.3.4", 80), 1),
        ({"HTTP_PROXY": "http://p:1", "NO_PROXY": "nonsense/8,,:"}, ("http", "11.2.3.4", 80), 1),
    ],
)
def test_proxy_is_found_as_go_finds_it(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], target: tuple[str, str, int], port: int
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert find_proxy(*target) == (Proxy(host="p", port=port) if port else None)


# challenges and tokens


@pytest.mark.parametrize(
    ("header", "scheme", "parameters"),
    [
        ('Bearer realm="https://a/b?c,d",service="s",scope="repository:x:pull,push"', "bearer", 3),
        ("BASIC realm=x", "basic", 1),
        ('Negotiate, Basic realm="a \\"b\\""', "basic", 1),
        ('Negotiate abc==, bearer realm = "x" , error="insufficient_scope"', "bearer", 2),
        ("Negotiate", "", 0),
        ("", "", 0),
        ("Bearer", "", 0),
        ("Basic " + "a=b " * 100_000, "basic", 1),
    ],
)
def test_challenges_are_read(header: str, scheme: str, parameters: int) -> None:
    found = parse_challenge(header)
    assert (found.scheme if found else "") == scheme
    assert len(found.parameters if found else ()) == parameters


@pytest.mark.parametrize(
    ("body", "token"),
    [
        (b'{"token":"a"}', "Bearer a"),
        (b'{"access_token":"b","expires_in":3600}', "Bearer b"),
        (b'{"token":"","access_token":"b"}', "Bearer b"),
        (b"{}", ""),
        (b'{"token":"a\\r\\nX-Evil: 1"}', ""),
        (b'{"token":"\\u00e4"}', ""),
        (b'{"token":1}', ""),
        (b'{"token":"a","expires_in":-1}', ""),
        (b'{"token":' + b"[" * 90_000, ""),
    ],
)
def test_tokens_are_read(body: bytes, token: str) -> None:
    response = HttpResponse(origin=RegistryOrigin("https", "a", 443), status=200, headers={}, body=body)
    if token:
        found = read_token(response, lambda: 100.0)
        assert found.header == token
        assert found.expires >= 145
        assert token not in repr(found)
    else:
        with pytest.raises(MalformedError):
            read_token(response)


def test_addresses_are_split() -> None:
    assert parse_origin("https://a:5/b?c=d#e") == (RegistryOrigin("https", "a", 5), "/b?c=d")
    assert parse_origin("http://[::1]")[0].authority == "[::1]"
    assert parse_origin("https://a.example:443/")[0].authority == "a.example"
