"""Model files: what is in them, told without loading or running anything."""
