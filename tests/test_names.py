"""pytest imports test modules by their name alone, so two of one name cannot both be run."""

from collections import Counter
from pathlib import Path


def test_names_of_test_modules_are_unique() -> None:
    names = Counter(path.name for path in Path(__file__).parent.rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []
