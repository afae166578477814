"""Keys that sign and verify: ECDSA on P-256 with SHA-256, in PEM, the default of cosign and containers/image.

The only importer of ``cryptography``, an optional extra. No network, no clock: a signature depends only on key and
bytes (RFC 6979), so that signing again changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from buildkit.errors import DefinitionError, MissingTool

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

PASSWORD = "BUILDKIT_SIGN_PASSWORD"  # noqa: S105 - the name of a variable
_MOST_BYTES = 64 << 10
_MAKE = "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out sign.pem"
_EXTRACT = "openssl pkey -in sign.pem -pubout -out sign.pub"


@dataclass(frozen=True, slots=True)
class Verifier:
    """A public key."""

    _key: EllipticCurvePublicKey

    @property
    def id(self) -> str:
        """SHA-256 of the key (DER, SubjectPublicKeyInfo), as hexadecimal digits; it identifies the key."""
        import hashlib

        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        return hashlib.sha256(self._key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()

    def verify(self, data: bytes, signature: bytes) -> bool:
        """Return whether ``signature`` (DER) is a signature of ``data`` by this key."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
        from cryptography.hazmat.primitives.hashes import SHA256

        try:
            self._key.verify(signature, data, ECDSA(SHA256()))
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True)
class Signer:
    """A private key; it is never printed."""

    _key: EllipticCurvePrivateKey

    def __repr__(self) -> str:
        return "Signer(…)"

    @property
    def public(self) -> Verifier:
        """The public key."""
        return Verifier(self._key.public_key())

    def sign(self, data: bytes) -> bytes:
        """Return a signature (DER) of ``data``."""
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
        from cryptography.hazmat.primitives.hashes import SHA256

        try:
            return self._key.sign(data, ECDSA(SHA256(), deterministic_signing=True))
        except UnsupportedAlgorithm:  # OpenSSL before 3.2: the signature differs every time and is equally valid
            return self._key.sign(data, ECDSA(SHA256()))


def load_signer(path: Path, password: str) -> Signer:
    """Load a private key; ``password`` may be empty. Raises DefinitionError, and MissingTool without the extra."""
    _require()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    data = _read(path)
    if b"ENCRYPTED COSIGN" in data or b"ENCRYPTED SIGSTORE" in data:
        raise DefinitionError(
            f"{path}: this is cosign's own format of encrypted keys",
            hint=f"make a key by: {_MAKE} (-aes256 for one with a password), and give cosign its public half",
        )
    try:
        key = load_pem_private_key(data, password.encode() or None)
    except TypeError as error:  # a password for a key without one, or none for one that needs it
        hint = f"put its password into the environment variable {PASSWORD}"
        if password:
            raise DefinitionError(f"{path}: this key has no password, but {PASSWORD} is set") from error
        raise DefinitionError(f"{path}: this key has a password", hint=hint) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        what = f"it cannot be read with the password in {PASSWORD}" if password else "this is not a private key in PEM"
        raise DefinitionError(f"{path}: {what}", hint=f"make a key by: {_MAKE}") from error
    if not isinstance(key, EllipticCurvePrivateKey) or not isinstance(key.curve, SECP256R1):
        raise DefinitionError(f"{path}: this is not an ECDSA key on P-256", hint=f"make one by: {_MAKE}")
    return Signer(key)


def load_verifier(path: Path) -> Verifier:
    """Load a public key. Raises DefinitionError, and MissingTool without the extra."""
    _require()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(_read(path))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise DefinitionError(
            f"{path}: this is not a public key in PEM", hint=f"a key's public half comes by: {_EXTRACT}"
        ) from error
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
        raise DefinitionError(f"{path}: this is not an ECDSA key on P-256", hint=f"make one by: {_MAKE}; {_EXTRACT}")
    return Verifier(key)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MOST_BYTES)
    except OSError as error:
        hint = "name the file of a key (PEM)"
        raise DefinitionError(f"{path}: this key cannot be read: {error.strerror}", hint=hint) from error


def _require() -> None:
    try:
        import cryptography  # noqa: F401
    except ImportError as error:
        raise MissingTool(
            "signing needs the Python package `cryptography`", hint="pip install 'xoe-buildkit[sign]'"
        ) from error
