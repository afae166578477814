"""Build images: plan, fetch, pack, assemble, deliver."""
