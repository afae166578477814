"""Native files (ELF): what they need of an image so that the dynamic linker can load them; told without running any."""

NOTHING = b"-"
"""The facts of a layer that holds nothing of the sort; most do."""
