"""The tar of a fresh Debian root to the same tar on every machine."""
