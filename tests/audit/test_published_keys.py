"""Keys that a package publishes in its tests, examples and documentation are no secrets of the image."""

from __future__ import annotations

import pytest

from buildkit.audit.secret_files import is_published_test

SITE = "opt/venv/lib/python3.13/site-packages"


@pytest.mark.parametrize(
    "path",
    [
        f"{SITE}/awscli/examples/iam/upload-server-certificate.rst",
        f"{SITE}/botocore/data/iam/2010-05-08/examples-1.json",
        f"{SITE}/ansible_collections/x/README.md",
        f"{SITE}/tornado/test/test.key",
        "usr/lib/python3.13/test/keycert.pem",
    ],
)
def test_key_in_tests_examples_and_documentation_of_a_package_is_published(path: str) -> None:
    assert is_published_test(path)


@pytest.mark.parametrize(
    "path",
    [
        f"{SITE}/app/settings/key.pem",
        f"{SITE}/server.key",
        f"{SITE}/README.md",  # of no package
        "app/examples/key.pem",
        "app/README.md",
        "root/.ssh/example",
    ],
)
def test_key_elsewhere_is_a_secret(path: str) -> None:
    assert not is_published_test(path)
