"""The reloader: a process of a development container that runs a Python server and follows changes of its code.

It is mounted into the container and started as ``python FOLDER [options] -- COMMAND``; no image contains it. So it
uses the standard library alone, runs on every Python from 3.11, and imports nothing else of buildkit. See
docs/development.md.
"""
