"""The program that a profiled container is given: Python 3.9, standard library only. It is on in no other container.

Its files are copied into a folder that the container sees read-only, and that is on its ``PYTHONPATH``.
"""
