"""Four repositories of others, from their Containerfile to an answered request: init, lock, build, run.

They share a cache, an index on loopback and, because their packages and users are the same, one root.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.foreign import REPOSITORIES, ForeignHost, ForeignRepository, adopt_repository, count_left_over, make_host

pytestmark = [pytest.mark.tools, pytest.mark.network]


@pytest.fixture(scope="module")
def host() -> Iterator[ForeignHost]:
    """A machine that all repositories are adopted on, one after another."""
    with make_host() as made:
        yield made


@pytest.mark.parametrize("repository", REPOSITORIES, ids=lambda repository: repository.name)
def test_repository_becomes_images_that_answer(host: ForeignHost, repository: ForeignRepository) -> None:
    before = repository.files(host.index)
    _, said = adopt_repository(host, repository)
    assert count_left_over(said) == 0, said
    changed = {path for path, text in before.items() if (host.tiny.project / path).read_text() != text}
    assert changed <= {"pyproject.toml"}, "[tool.buildkit] is added, and nothing else touched"
    again = host.tiny.build(next(iter(repository.answers)), "--frozen")
    assert again.built() == {}
