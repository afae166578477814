"""What containers use: texts of the kernel to values, values to metrics and a page, and the server that shows them.

A container has this folder alone, so what `__main__` imports needs nothing else of the package. Values and texts are
pure.
"""
