import pytest

from buildkit.declare.containerignore import parse_ignore_file


@pytest.mark.parametrize(
    ("text", "path", "ignored"),
    [
        ("docs", "docs/a/b.md", True),
        ("docs", "app/docs/a.md", False),  # anchored, unlike git's
        ("/docs/", "docs/a.md", True),
        ("*.log", "x.log", True),
        ("*.log", "app/x.log", False),
        ("**/*.log", "x.log", True),
        ("**/*.log", "app/deep/x.log", True),
        ("app/**", "app/deep/x", True),
        ("app/**/x", "app/x", True),
        ("temp?", "temp1/a", True),
        ("temp?", "temp/a", False),
        ("[ab].py", "a.py", True),
        ("[!ab].py", "a.py", False),
        ("*\n!keep.md", "keep.md", False),
        ("*\n!keep.md", "other.md", True),
        ("!keep.md\n*", "keep.md", True),  # the last word counts
        ("app\n!app/keep", "app/keep/x", False),
        ("# app\n\n", "app/x", False),
        (" app \n", "app", True),
        ("./app", "app/x", True),
        ("a+b(c)", "a+b(c)/x", True),
        (".", "x", False),
    ],
)
def test_patterns_match_as_in_dockerignore(text, path, ignored):
    assert parse_ignore_file(text, ".containerignore")(path) is ignored


def test_repeated_stars_match_like_one_without_slowing_down():
    many = parse_ignore_file("**/" * 40 + "x\n", ".containerignore")
    assert many("a/b/x")
    assert many("x")
    assert not many("a/" * 300 + "y")
