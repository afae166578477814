"""Pickles: what loading one would import and call, told by emulating the pickle machine on abstract values."""
