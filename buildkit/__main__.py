"""``python -m buildkit``: the console script."""

from buildkit.cli.console import main

if __name__ == "__main__":
    raise SystemExit(main())
