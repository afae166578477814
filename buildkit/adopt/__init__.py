"""Turn an existing repository into stages: read what is there, and write what is missing."""
