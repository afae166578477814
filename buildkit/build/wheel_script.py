"""Builds a wheel with pip in the builder's container; sent there as text, never imported by buildkit.

``python -I -c TEXT SOURCE SUBDIRECTORY OUT IN`` takes an sdist or a folder, of which the project may be in a
subdirectory, and runs with the standard library and the builder's pip. It opens OUT and then IN, two named pipes, and
writes the wheel's file name, a line feed and the wheel's bytes to OUT; pip's own output goes to standard error. Nothing
of this text is part of a recipe, so it may change, but the wheels that it builds must not.
"""

import glob
import os
import shutil
import sys
import tarfile

WORK = "/tmp/buildkit"  # noqa: S108 - compilers write the path into what they build: the same in every container


def unpack(source: str) -> str:
    """Copy a folder, or unpack an sdist, and return the folder of the project."""
    if os.path.isdir(source):  # noqa: PTH112 - one way of naming files
        return str(shutil.copytree(source, f"{WORK}/source", symlinks=True))
    if source.endswith(".zip") or not hasattr(tarfile, "data_filter"):
        shutil.unpack_archive(source, f"{WORK}/source")
    else:
        shutil.unpack_archive(source, f"{WORK}/source", filter="data")
    (folder,) = glob.glob(f"{WORK}/source/*/")  # noqa: PTH207 - it keeps the slash at the end
    return folder


def build_wheel(folder: str) -> str:
    """Build a project's wheel without network or build isolation, and return its path; exit with 1 if pip fails."""
    argv = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    argv += ["--no-cache-dir", "--disable-pip-version-check", "--wheel-dir", f"{WORK}/out", folder]
    to_stderr = [(os.POSIX_SPAWN_DUP2, 2, 1)]
    pid = os.posix_spawn(sys.executable, argv, os.environ, file_actions=to_stderr)
    if os.waitpid(pid, 0)[1]:
        sys.exit(1)
    (wheel,) = glob.glob(f"{WORK}/out/*.whl")  # noqa: PTH207
    return wheel


if __name__ == "__main__":
    source, inside, out, requests = sys.argv[1:]
    with open(out, "wb") as answer, open(requests, "rb"):  # noqa: PTH123
        project = unpack(source)
        path = build_wheel(f"{project}/{inside}" if inside else project)
        answer.write(os.path.basename(path).encode() + b"\n")  # noqa: PTH119
        with open(path, "rb") as file:  # noqa: PTH123
            shutil.copyfileobj(file, answer)
