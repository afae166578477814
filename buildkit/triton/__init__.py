"""Triton's model repositories: configurations from graphs and settings, and checks of those written by hand. Pure."""
