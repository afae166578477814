"""What the layers of a root hold, read in the pass in which they are unpacked: their listing and their native facts."""

from __future__ import annotations

from collections.abc import Iterator

from buildkit.build.native_facts import record_collected
from buildkit.digest import Digest
from buildkit.errors import BuildError
from buildkit.layers.root.paths import RootPaths
from buildkit.layers.tar.contents import Listing
from buildkit.layers.tar.listing import read_listing
from buildkit.native.collector import NativeCollector
from buildkit.native.facts import encode_facts
from buildkit.store.ledger import Ledger


class RootContents:
    """Takes the layers of one root, lowest first. One that cannot be read is left to those who need what it holds."""

    def __init__(self) -> None:
        self._layers: list[tuple[Digest, Listing, NativeCollector] | None] = []

    def read(self, digest: Digest, tar: Iterator[bytes]) -> None:
        """Read a layer."""
        collector = NativeCollector()
        try:
            listing = read_listing(tar, digest.short, of_root=True, observer=collector)
        except BuildError:
            self._layers.append(None)
        else:
            self._layers.append((digest, listing, collector))

    def keep(self, ledger: Ledger) -> Listing | None:
        """Record the native facts, once the layers are known to be the right ones; return the listing of the root."""
        read = [layer for layer in self._layers if layer is not None]
        for digest, _, collector in read:
            record_collected(ledger, digest, encode_facts(collector.facts()))
        listings = [listing for _, listing, _ in read]
        if len(read) < len(self._layers):
            return None
        return listings[0] if len(listings) == 1 else RootPaths(listings).listing()
