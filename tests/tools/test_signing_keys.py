"""Signing keys made by openssl, with and without password; stable signatures, and the example of the DSSE spec."""

from __future__ import annotations

import base64
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from buildkit.errors import DefinitionError, MissingTool
from buildkit.tools.keys import Signer, load_signer, load_verifier

_PKCS8 = serialization.PrivateFormat.PKCS8
_PLAIN = serialization.NoEncryption()


def write(path: Path, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, password: bytes = b"") -> Path:
    cipher = serialization.BestAvailableEncryption(password) if password else _PLAIN
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, _PKCS8, cipher))
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    path.with_suffix(".pub").write_bytes(public)
    return path


def test_signature_is_deterministic_and_bound_to_bytes_and_key(tmp_path: Path) -> None:
    path = write(tmp_path / "key", ec.generate_private_key(ec.SECP256R1()))
    signer, verifier = load_signer(path, ""), load_verifier(path.with_suffix(".pub"))
    signature = signer.sign(b"text")
    assert signature == signer.sign(b"text")
    assert verifier.verify(b"text", signature)
    assert verifier.id == signer.public.id
    other = load_signer(write(tmp_path / "other", ec.generate_private_key(ec.SECP256R1())), "").public
    for key, data, made in ((verifier, b"Text", signature), (other, b"text", signature), (verifier, b"text", b"")):
        assert not key.verify(data, made)
    assert not verifier.verify(b"text", signature[:-1])
    assert other.id != verifier.id


def test_dsse_example_is_verified() -> None:
    number = 97358161215184420915383655311931858321456579547487070936769975997791359926199
    signer = Signer(ec.derive_private_key(number, ec.SECP256R1()))
    made = signer.sign(b"DSSEv1 29 http://example.com/HelloWorld 11 hello world")
    raw = b"".join(part.to_bytes(32, "big") for part in decode_dss_signature(made))
    expected = "A3JqsQGtVsJ2O2xqrI5IcnXip5GToJ3F+FnZ+O88SjtR6rDAajabZKciJTfUiHqJPcIAriEGAHTVeCUjW2JIZA=="
    assert base64.b64encode(raw).decode() == expected


def test_wrong_or_missing_key_password_is_reported(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    locked, plain = write(tmp_path / "locked", key, b"sesame"), write(tmp_path / "plain", key)
    assert load_signer(locked, "sesame").public.id == load_signer(plain, "").public.id
    for path, password, why in (
        (locked, "", "this key has a password"),
        (locked, "other", "cannot be read with the password in BUILDKIT_SIGN_PASSWORD"),
        (plain, "sesame", "this key has no password"),
    ):
        with pytest.raises(DefinitionError, match=why) as caught:
            load_signer(path, password)
        assert "sesame" not in caught.value.message + caught.value.hint
    assert "sesame" not in repr(load_signer(locked, "sesame"))


def test_files_that_are_not_keys_are_refused(tmp_path: Path) -> None:
    cosign = tmp_path / "cosign.key"
    cosign.write_text(
        "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\neA==\n-----END ENCRYPTED SIGSTORE PRIVATE KEY-----\n"
    )
    with pytest.raises(DefinitionError, match="cosign's own format") as caught:
        load_signer(cosign, "")
    assert "openssl genpkey" in caught.value.hint
    curve = write(tmp_path / "curve", ec.generate_private_key(ec.SECP384R1()))
    for path in (curve, write(tmp_path / "rsa", rsa.generate_private_key(65537, 2048))):
        with pytest.raises(DefinitionError, match="not an ECDSA key on P-256"):
            load_signer(path, "")
        with pytest.raises(DefinitionError, match="not an ECDSA key on P-256"):
            load_verifier(path.with_suffix(".pub"))
    with pytest.raises(DefinitionError, match="not a public key"):
        load_verifier(curve)
    with pytest.raises(DefinitionError, match="not a private key"):
        load_signer(curve.with_suffix(".pub"), "")
    with pytest.raises(DefinitionError, match="cannot be read: No such file"):
        load_signer(tmp_path / "none", "")


def test_missing_cryptography_names_the_extra_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    for load in (lambda: load_signer(tmp_path, ""), lambda: load_verifier(tmp_path)):
        with pytest.raises(MissingTool) as caught:
            load()
        assert "pip install 'xoe-buildkit[sign]'" in caught.value.hint


def test_cli_and_push_do_not_import_cryptography() -> None:
    names = "buildkit.sessions, buildkit.build.attestations, buildkit.cli.build, buildkit.cli.verify_image"
    code = f"import sys, {names}; print('cryptography' in sys.modules)"
    done = subprocess.run((sys.executable, "-c", code), capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]
