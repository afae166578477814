"""Native files (ELF): what the dynamic linker needs in an image to load them, found without running anything."""

NOTHING = b"-"
"""The encoded facts of a layer without native files, which most layers are."""
