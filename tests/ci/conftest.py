"""The tiny project of the end-to-end tests."""

from tests.e2e.conftest import links, make_tiny, registry, template, tiny

__all__ = ["links", "make_tiny", "registry", "template", "tiny"]
