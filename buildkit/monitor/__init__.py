"""What containers use: texts of the kernel to values, values to metrics and a page, and the server that shows them.

A container runs this folder alone, so it imports nothing else of the package. Values and texts are pure.
"""
