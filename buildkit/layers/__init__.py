"""Turn wheels, models, files and roots into deterministic layer tars."""
