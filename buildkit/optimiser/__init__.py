"""Programs that run in the optimiser's container: they derive models from others, and measure them.

The folder is mounted there and imported as ``buildkit.optimiser``; nothing on the host imports it, for it loads heavy
frameworks, and it imports nothing of buildkit. Python 3.11 or newer runs it.
"""
