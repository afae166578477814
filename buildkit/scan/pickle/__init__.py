"""Pickles: find what loading one would import and call, by emulating the pickle machine on abstract values."""
