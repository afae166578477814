"""Make and refresh lock files. The only part of buildkit that chooses versions."""
