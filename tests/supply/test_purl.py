"""Package URLs, compared with the reference implementation."""

import pytest
from packageurl import PackageURL

from buildkit.supply.purl import image_purl, pypi_purl, render_purl


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (pypi_purl("Zope.Interface", "7.0+local.1"), PackageURL("pypi", None, "zope-interface", "7.0+local.1")),
        (
            render_purl("deb", "libstdc++6", "1:14.2.0-19~deb13u1", namespace="debian", arch="amd64", distro="trixie"),
            PackageURL(
                "deb", "debian", "libstdc++6", "1:14.2.0-19~deb13u1", {"arch": "amd64", "distro": "trixie"}
            ),
        ),
        (render_purl("generic", "a model", "", arch=""), PackageURL("generic", None, "a model")),
        (
            image_purl("docker.io/library/python:3.13@sha256:" + "a" * 64, "arm64"),
            PackageURL(
                "oci", None, "python", "sha256:" + "a" * 64,
                {"repository_url": "docker.io/library/python", "arch": "arm64", "tag": "3.13"},
            ),
        ),
        (
            image_purl("127.0.0.1:5000/tiny/root@sha256:" + "b" * 64, "amd64"),
            PackageURL(
                "oci", None, "root", "sha256:" + "b" * 64,
                {"repository_url": "127.0.0.1:5000/tiny/root", "arch": "amd64"},
            ),
        ),
    ],
)  # fmt: skip
def test_purls_agree_with_the_reference_implementation(ours, theirs):
    assert PackageURL.from_string(ours) == theirs
    assert ours == theirs.to_string()
