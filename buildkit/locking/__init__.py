"""Making and refreshing locks: the one part of buildkit that decides versions."""
