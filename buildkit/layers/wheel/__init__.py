"""Wheels to layer members, and their bytecode."""
