"""Lines of an input that no lock can hold are reported where they stand, with what to write."""

from __future__ import annotations

import pytest

from buildkit.locks.input_lines import find_input_problems

URL = "write NAME @ https://HOST/FILE.whl, or NAME==VERSION with an index or --find-links that has the file"


def problems(text: str, **files: str) -> list[tuple[str, str, str]]:
    read = {"requirements/app.in": text, **files}.get
    return [(problem.file, problem.what, problem.hint) for problem in find_input_problems("requirements/app.in", read)]


@pytest.mark.parametrize(
    ("line", "what", "hint"),
    [
        (".", "is a folder without a slash", "write ./"),
        ("-e .", "is a folder without a slash", "write ./"),
        (".[gpu]", "is a folder without a slash", "write ./[gpu]"),
        ("..", "is a folder without a slash", "write ../"),
        ("libs/x", "is a path without ./", "write ./libs/x"),
        ("-e libs/x[gpu]", "is a path without ./", "write ./libs/x[gpu]"),
        ("./x-1.0-py3-none-any.whl", "is a file", "name its folder by --find-links, and write NAME==VERSION"),
        ("x-1.0-py3-none-any.whl", "is a file", "name its folder by --find-links, and write NAME==VERSION"),
        ("wheels/x-1.0.tar.gz", "is a file", "name its folder by --find-links, and write NAME==VERSION"),
        ("/srv/libs/x", "is a path of this machine", "write the path from the checkout: ./libs/x"),
        ("file:/srv/libs/x", "is a path of this machine", "write the path from the checkout: ./libs/x"),
        ("https://x.test/x.whl", "is a URL", URL),
        (
            "x @ https://x.test/x",
            "is a URL",
            URL,
        ),
        ("file:///srv/x", "is a URL", URL),
        ("x @ ftp://x.test/x-1.tar.gz", "is a URL", URL),
        (
            "git+https://x.test/x@main",
            "is a repository without the name of its package",
            "write NAME @ git+https://x.test/x@main",
        ),
        (
            "-e git+https://x.test/x@v1#egg=x&subdirectory=py",
            "is a repository without the name of its package",
            "write x @ git+https://x.test/x@v1#subdirectory=py",
        ),
        (
            "git+ssh://git@x.test/x#egg=X_y[gpu]",
            "is a repository without the name of its package",
            "write X_y[gpu] @ git+ssh://git@x.test/x",
        ),
        (
            "-e x @ git+https://x.test/x",
            "is a package to be edited in place, which no image has",
            "write x @ git+https://x.test/x",
        ),
        (
            "x @ git+file:///srv/x",
            "is in a repository that only https or ssh could reach from everywhere",
            "write NAME @ git+https://HOST/PATH@REVISION",
        ),
        (
            "-r ../pyproject.toml",
            "is not a file of requirements",
            "write ./ (or ./[extra]) for the project itself, or name its uv.lock in the stage",
        ),
    ],
)
def test_line_that_no_lock_can_hold_is_reported_with_what_to_write(line: str, what: str, hint: str) -> None:
    found = [("requirements/app.in:3", f"`{line}` {what}", hint)]
    assert problems(f"# first\nidna\n{line}  # why\n") == found


@pytest.mark.parametrize(
    "line",
    [
        "idna", "idna>=3 ; sys_platform == 'linux'", "x[a,b]==1.0", "./", "./[gpu]", "./libs/x", "-e ./libs/x", "../x",
        "x @ ./libs/x", "file:./libs/x", "--find-links https://x.test/wheels", "-i https://x.test/simple",
        "-c limits.in", "collective.zipfiletransport",
        "idna==3.7 --hash=sha256:0", "idna ; platform_machine == 'a/b'",
    ],
)  # fmt: skip
def test_line_that_a_lock_can_hold_is_no_problem(line: str) -> None:
    packages = {f"{folder}pyproject.toml": "" for folder in ("./", "../x/", "libs/x/")}
    assert problems(f"{line}\n", **packages) == []
    assert problems(f"{line}\n", **{name.replace("pyproject.toml", "setup.py"): "" for name in packages}) == []


@pytest.mark.parametrize("line", ["./vendor/tk", "-e ./vendor/tk[gpu] ; sys_platform == 'linux'", "tk @ ./vendor/tk/"])
def test_folder_without_a_package_is_reported_with_the_command_that_fetches_it(line: str) -> None:
    modules = {".gitmodules": '[submodule "x"]\n\tpath = vendor/t\n[submodule "y"]\n\tpath = vendor/tk\n'}
    ((place, what, hint),) = problems(f"{line}\n")
    assert (place, hint) == ("requirements/app.in:1", "is vendor/tk the folder of a package, and checked out?")
    assert what.endswith("` has no pyproject.toml and no setup.py")
    ((_, what, hint),) = problems(f"{line}\n", **modules)
    assert what.endswith("` is in a submodule that is not fetched")
    assert hint == "run: git submodule update --init -- vendor/tk"
    ((_, what, _),) = problems(f"{line}\n", **modules, **{"vendor/tk/.git": "gitdir: ../../.git/modules/y\n"})
    assert what.endswith("` has no pyproject.toml and no setup.py")


def test_problem_of_an_included_file_is_reported_there_once() -> None:
    found = problems("-r more.in\n-r more.in\n", **{"requirements/more.in": "-r app.in\n.\n"})
    assert found == [("requirements/more.in:2", "`.` is a folder without a slash", "write ./")]


def test_credentials_are_refused_and_not_shown() -> None:
    (found,) = problems("--extra-index-url https://me:hunter2@x.test/simple\n")
    assert found[1:] == (
        "`--extra-index-url https://x.test/simple` has credentials",
        "put them into netrc, or into the index settings of pip or uv",
    )


def test_package_of_a_git_repository_is_refused_for_pip_tools_at_its_line() -> None:
    files = {"app.in": "idna\nx @ git+https://x.test/x@v1\n"}
    assert find_input_problems("app.in", files.get) == []
    (found,) = find_input_problems("app.in", files.get, "pip-tools")
    assert (found.file, found.hint) == ("app.in:2", 'set locker = "uv", or depend on a release')
    assert found.what.endswith("is what pip-tools pins no commit of")
