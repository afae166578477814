"""The listings of layers: recorded in the ledger, or read from the blobs once and recorded then."""

from __future__ import annotations

from buildkit.digest import Key
from buildkit.errors import LostError
from buildkit.layers.root.paths import RootPaths
from buildkit.layers.tar.contents import Listing
from buildkit.layers.tar.listing import read_listing
from buildkit.store.layer_bytes import LayerBytes
from buildkit.store.ledger import Ledger


def find_listing(key: Key, ledger: Ledger, layers: LayerBytes, *, of_root: bool) -> Listing | None:
    """Return the listing of a recorded layer; None if it is not known and its bytes are not here.

    ``of_root`` layers are listed with their empty folders. Raises BuildError for a damaged one, and LostError if the
    ledger has it no more.
    """
    listing = ledger.layers.contents(key)
    if listing is not None:
        return listing
    row = ledger.layers.find([key]).get(key)
    if row is None:  # another process removed it, or its row was damaged
        raise LostError(f"the layer {key.short} is gone from the ledger", hint="build again to rebuild it")
    own = row.blobs
    if not all(map(layers.has, own)):
        return None
    listings = [read_listing(layers.open_tar(blob), blob.digest.short, of_root=of_root) for blob in own]
    listing = listings[0] if len(listings) == 1 else RootPaths(listings).listing()
    ledger.layers.add_contents(key, listing)
    return listing
