"""What the layers of a root hold, read in the pass in which they are unpacked: their listing and their native facts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

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
    """Takes the layers of one root. One that cannot be read is left to those who need what it holds."""

    def __init__(self) -> None:
        self._layers: dict[Digest, tuple[Listing, NativeCollector] | None] = {}

    def read(self, digest: Digest, tar: Iterator[bytes]) -> None:
        """Read a layer, in place of what was read of it before."""
        collector = NativeCollector()
        try:
            listing = read_listing(tar, digest.short, of_root=True, observer=collector)
        except BuildError:
            self._layers[digest] = None
        else:
            self._layers[digest] = listing, collector

    def keep(self, ledger: Ledger, digests: Sequence[Digest]) -> Listing | None:
        """Record the native facts, once the layers are known to be the right ones; return the listing of the root.

        ``digests`` are the root's layers, lowest first.
        """
        read = {digest: layer for digest in digests if (layer := self._layers[digest]) is not None}
        for digest, (_, collector) in read.items():
            record_collected(ledger, digest, encode_facts(collector.facts()))
        listings = [read[digest][0] for digest in digests if digest in read]
        if len(listings) < len(digests):
            return None
        return listings[0] if len(listings) == 1 else RootPaths(listings).listing()
