"""Shell scripts that run elsewhere: in hooks of mmdebstrap, in containers, in exported Containerfiles.

They are files, so that shellcheck reads them. A script begins with comments for its readers; what follows the first
empty line is passed on.
"""

from __future__ import annotations

from importlib.resources import files


def load_script(name: str) -> str:
    """Return the commands of ``NAME.sh``, without the comments at its head."""
    text = (files("buildkit.shell") / f"{name}.sh").read_text("utf-8")
    return text.partition("\n\n")[2]
