"""Jinja templates: parsed by Jinja, their constants evaluated, their values followed to the names they reach."""
