"""What ``verify-image`` prints of an image."""

from __future__ import annotations

from buildkit.digest import Digest
from buildkit.inspection.verify_image import ImageVerification, RegistryImage, render_verdict
from buildkit.oci.reference import parse_ref

DIGEST = Digest.of(b"x")


def test_image_of_an_index_is_named_with_its_digest_once() -> None:
    image = RegistryImage(ref=parse_ref(f"localhost:5/x@{DIGEST}", "x"), manifest=b"x", config=b"", layers=())
    found = ImageVerification(
        image=image, stage="x", layers=(), absent=(), unknown=(), config=True, manifest=True, proofs=()
    )
    assert render_verdict(found)[0].startswith(f"localhost:5/x@{DIGEST}: all 0 layers")
