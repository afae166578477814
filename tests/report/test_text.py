"""Numbers and nouns for people."""

import pytest

from buildkit.report.text import format_count


@pytest.mark.parametrize(
    ("count", "noun", "text"),
    [
        (1, "file", "1 file"),
        (0, "file", "0 files"),
        (2, "Python package", "2 Python packages"),
        (1, "folder of files", "1 folder of files"),
        (2, "image of a registry", "2 images of a registry"),
    ],
)
def test_count_has_the_plural_of_the_noun_it_counts(count: int, noun: str, text: str) -> None:
    assert format_count(count, noun) == text
