"""Lock files: text to values and back. Pure."""
