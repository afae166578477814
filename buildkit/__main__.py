"""``xoe-buildkit``, also ``python -m buildkit``: the console script; Ctrl-C is no traceback while it is imported."""

import sys


def main() -> int:
    """Run the command that the process's arguments name; return its exit code."""
    try:
        from buildkit.cli import console

        return console.main()
    except KeyboardInterrupt:  # before or after `guarded`
        sys.stderr.write("interrupted\n")
        return 130


if __name__ == "__main__":
    raise SystemExit(main())
