"""A program of containers: nothing on the host imports it."""
