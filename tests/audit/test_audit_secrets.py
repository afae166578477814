"""Secrets of every kind are found in any layer, placeholders are not, and no secret is revealed."""

import re

import pytest

from buildkit.audit.secret_patterns import DISTINCT, entropy
from buildkit.audit.secret_scan import BINARY_LIMIT, SecretScanner
from buildkit.findings import Severity
from tests.audit.crafted import audit, env, file, ids
from tests.audit.samples import ENCRYPTED, INNOCENT, PEM, TOKENS, TRADES, WRITTEN, letters

SITE = "opt/venv/lib/python3.13/site-packages/alpha"


def sorts(findings):
    return {finding.what.partition(" `")[0].partition(" -----")[0] for finding in findings}


@pytest.mark.parametrize("sort", TOKENS)
def test_token_is_found_in_any_file(sort):
    text = f"value: {TOKENS[sort]}\n".encode()
    for path, content in ((f"{SITE}/config.py", text), ("srv/a.bin", b"\0\1" * 20 + text)):
        findings = audit([file(path, content)])
        assert ids(findings) == {"secret-in-layer"}
        assert sort in sorts(findings)


@pytest.mark.parametrize("sort", WRITTEN)
def test_weak_patterns_are_searched_in_user_files_only(sort):
    text = WRITTEN[sort].encode()
    assert sort in sorts(audit([file("app/config.py", text)]))
    assert audit([file(f"{SITE}/config.py", text)]) == ()


@pytest.mark.parametrize("path", TRADES)
def test_secret_files_are_searched(path):
    findings = audit([file(path, TRADES[path].encode())])
    assert ids(findings) == {"secret-in-layer"}
    assert findings[0].path == path


@pytest.mark.parametrize("path", INNOCENT)
def test_placeholder_is_not_a_secret(path):
    assert audit([file(path, INNOCENT[path].encode())]) == ()


def test_every_pattern_has_a_sample():
    assert {pattern.sort for pattern in DISTINCT} == set(TOKENS)


def test_keys_in_other_encodings_are_found():
    assert sorts(audit([file("srv/a", ENCRYPTED.encode())])) == {"private key"}
    service = '{"type": "service_account", "private_key": "' + PEM.replace("\n", "\\n") + '"}'
    assert sorts(audit([file("srv/gcp.json", service.encode())])) == {"private key"}


def test_secret_in_deleted_file_is_found_and_marked_as_deleted():
    (finding,) = audit([file("srv/key", PEM.encode())], [file("srv/.wh.key")])
    assert finding.layer == f"sha256:{1:064x}"
    assert "deletes it" in finding.what
    (replaced,) = audit([file("srv/key", PEM.encode())], [file("srv/key", b"nothing")])
    assert "replaces it" in replaced.what


def test_finding_does_not_reveal_the_secret():
    token = TOKENS["GitHub token"]
    (finding,) = audit([file("srv/a", token.encode())])
    assert token[:8] not in finding.what
    assert f"({len(token)} characters)" in finding.what
    (short,) = audit(config=env("DB_PASSWORD=Zq8v!r"))
    assert "Zq8v" not in short.what


def test_secret_has_offset_and_count():
    text = b"x" * 100 + b"\n" + TOKENS["GitHub token"].encode() + b"\n" + TOKENS["GitHub token"].encode() + b"\n"
    (finding,) = audit([file("srv/a", text)])
    assert finding.offset == 101
    assert "and 1 more" in finding.what


def test_secret_across_chunks_is_found_once():
    data = TOKENS["GitHub token"].encode()
    for split in (1, 10, 39):
        scanner = SecretScanner(layer=0)
        scanner.scan("srv/a", 1000, iter((b"y" * 500 + b"\n" + data[:split], data[split:] + b"\n", b"z" * 300)))
        assert [(one.offset, one.more) for one in scanner.found] == [(501, 0)]


def test_large_file_is_searched_up_to_limit():
    def scan(first, size, limit):
        scanner = SecretScanner(layer=0, text_limit=4 << 20)
        taken = 0

        def chunks():
            nonlocal taken
            yield first
            while taken < size:
                taken += 1 << 20
                yield bytes(1 << 20) if first[:1] == b"\0" else b"a" * (1 << 20)

        scanner.scan("srv/a", size, chunks())
        assert taken <= limit + (2 << 20)
        return scanner

    assert scan(b"\0" * 100, 100 << 20, BINARY_LIMIT).cut == 0  # nobody writes there
    assert scan(b"text", 9 << 20, 4 << 20).cut == 1


@pytest.mark.parametrize(
    ("config", "place"),
    [
        (env("API_TOKEN=Zq8vTr4mLw2x"), "config: env API_TOKEN"),
        (env("GREETING=" + TOKENS["Hugging Face token"]), "config: env GREETING"),
        ({"Cmd": ["python3", "main.py", "--password=Zq8vTr4m"]}, "config: command"),
        ({"Healthcheck": {"Test": ["CMD", "python3", TOKENS["GitHub token"]]}}, "config: healthcheck"),
    ],
)
def test_secret_in_config_environment_is_found(config, place):
    (finding,) = audit(config=config)
    assert (finding.rule.id, finding.path) == ("secret-in-config", place)


def test_secret_in_history_and_labels_is_found():
    line = {"created_by": "|1 GIT_TOKEN=Zq8vTr4mLw2x /bin/sh -c make"}
    (finding,) = audit(history=[{"created_by": "COPY . ."}, line])
    assert finding.path == "config: history 2"
    (clone,) = audit(history=[{"created_by": "RUN git clone https://bot:" + letters(20) + "@git.internal/x"}])
    assert clone.what.startswith("password in a URL")
    assert clone.severity == Severity.HIGH


@pytest.mark.parametrize(
    "line",
    [
        "TOKENIZERS_PARALLELISM=false",
        "API_KEY_FILE=/run/secrets/key",
        "DB_PASSWORD=/run/secrets/db",
        "MAX_TOKEN=4096",
        "GPG_KEY=" + letters(40, alphabet="0123456789ABCDEF"),
        "PYTHON_SHA256=" + letters(64, alphabet="0123456789abcdef"),
        "PASSWORD=changeme",
        "AUTH_TOKEN=${TOKEN}",
        "SECRET_KEY=",
    ],
)
def test_harmless_variable_is_not_found(line):
    assert audit(config=env(line)) == ()


def test_hostile_text_is_searched_in_linear_time():
    """Each of these made a careless pattern go back over everything; a hang is what pytest's timeout is for."""
    for piece in (b"eyJ", b"token=", b"a://b:", b"-----BEGIN ", b"secret: 'a", b"key" * 3, b"AKIA", b"aaaa_", b"key "):
        text = piece * ((1 << 18) // len(piece))
        SecretScanner(layer=0).scan("app/x.txt", len(text), iter((text,)))


def test_entropy_separates_words_from_random_text():
    assert entropy(b"") == 0
    assert entropy(b"aaaa") == 0
    assert entropy(b"ab") == 1
    assert entropy(letters(64).encode()) > 4.5


def test_needles_are_lower_case_and_match_their_samples():
    for pattern in DISTINCT:
        assert all(needle == needle.lower() for needle in pattern.needles)
        assert any(needle in TOKENS[pattern.sort].lower().encode() for needle in pattern.needles)
        assert isinstance(pattern.regex, re.Pattern)
