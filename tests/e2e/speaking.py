"""The tiny project, with a root that has Python: bytecode, a builder, an sdist, and a model behind a URL.

The Python is the running interpreter without unused modules; pip is that of this environment.
"""

from __future__ import annotations

import importlib.metadata
import io
import re
import ssl
import sys
import sysconfig
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.e2e.tinyproject import Tiny
from tests.e2e.tinyroot import push_root
from tests.layers.wheelmaker import make_wheel

VERSION = "{}.{}".format(*sys.version_info[:2])
_LEFT_OUT = "test|tests|site-packages|dist-packages|__pycache__|idlelib|tkinter|turtledemo|lib2to3|ensurepip|pydoc_data"
_BACKEND = """
import zipfile

def build_wheel(folder, config_settings=None, metadata_directory=None):
    info = "source_only-1.0.dist-info"
    with zipfile.ZipFile(f"{folder}/source_only-1.0-py3-none-any.whl", "w") as file:
        file.writestr("source_only.py", "WORD = 'sdist'\\n")
        file.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\\nName: source-only\\nVersion: 1.0\\n")
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        file.writestr(f"{info}/RECORD", f"source_only.py,,\\n{info}/METADATA,,\\n{info}/WHEEL,,\\n{info}/RECORD,,\\n")
    return "source_only-1.0-py3-none-any.whl"
"""
_SDIST = {
    "backend.py": _BACKEND,
    "PKG-INFO": "Metadata-Version: 2.2\nName: source-only\nVersion: 1.0\n\n",
    "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
}


def make_speaking(tiny: Tiny, registry: str, folder: Path, url: str) -> None:
    """Change an unlocked tiny project; ``folder`` is empty, ``url`` is that of `serve_model`."""
    interpreter = Path(sys.base_prefix) / "bin" / f"python{VERSION}"
    image = push_root(registry, folder, tiny.env, (interpreter.resolve(), *_library()))
    tiny.write("stages/base/stage.toml", f'summary = "speaks Python"\n[root]\nimage = "{image}"\n')
    tiny.write(
        "stages/builder/stage.toml", 'summary = "x"\nfrom = "base"\n[wheels]\nlocks = ["requirements/build.txt"]\n'
    )
    tiny.write("requirements/build.in", "pip\n")
    tiny.replace("requirements/app.in", "gamma==1.0\n", "gamma==1.0\nsource-only==1.0\n")
    models = (tiny.project / "requirements/models.toml").read_text()
    far = f'[[model]]\nname = "far"\nsource = "{url}/weights.bin"\nlicense = "MIT"\n'
    tiny.write("requirements/models.toml", f"{models}\n{far}")
    settings = (tiny.project / "pyproject.toml").read_text().replace("bytecode = false", "bytecode = true")
    settings = re.sub(r'python = ".*"', f'python = "{VERSION}"\ninterpreter = "{interpreter.resolve()}"', settings)
    tiny.write("pyproject.toml", settings)


def fill_links(links: Path) -> None:
    """Add pip, and an sdist with its own backend."""
    found = importlib.metadata.distribution("pip")
    paths = [path for path in found.files or () if path.parts[0] == "pip" and path.suffix != ".pyc"]
    files = {str(path): Path(str(found.locate_file(path))).read_bytes() for path in paths}
    metadata = f"Metadata-Version: 2.1\nName: pip\nVersion: {found.version}\n\n"
    make_wheel(links, files, name="pip", version=found.version, METADATA=metadata)
    with tarfile.open(links / "source_only-1.0.tar.gz", "w:gz") as tar:
        for path, text in _SDIST.items():
            info = tarfile.TarInfo(f"source_only-1.0/{path}")
            info.size = len(text.encode())
            tar.addfile(info, io.BytesIO(text.encode()))


@contextmanager
def serve_model(folder: Path, context: ssl.SSLContext) -> Iterator[str]:
    """Serve the files of a folder on loopback over TLS; yield the URL."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        server.daemon_threads = True
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"https://127.0.0.1:{server.server_port}"
        server.shutdown()


def _library() -> Iterator[Path]:
    """Yield the files of the standard library, without unused modules."""
    top = Path(sysconfig.get_path("stdlib")).resolve()
    left_out = re.compile(rf"(?:{_LEFT_OUT}|config-.*)")
    for path in sorted(top.rglob("*")):
        parts = path.relative_to(top).parts
        if path.suffix in (".py", ".so") and not any(left_out.fullmatch(part) for part in parts):
            yield path
