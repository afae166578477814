"""The ledger: what was built from which recipe, when, and what is known about it. The tables are in store/schema.py.

A row is written after the blobs it names are on the disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from buildkit.digest import Key
from buildkit.layers.path_prefixes import path_prefixes_of
from buildkit.oci.blob import LayerResult
from buildkit.store.database import Database
from buildkit.store.tables.builds import BuildTable
from buildkit.store.tables.collision_checks import CollisionCheckTable
from buildkit.store.tables.files import FileTable
from buildkit.store.tables.layers import LayerIdentity, LayerTable, pack_listing

if TYPE_CHECKING:
    from buildkit.store.tables.derivations import DerivationTable
    from buildkit.store.tables.downloads import DownloadTable
    from buildkit.store.tables.natives import NativeTable, StartTable
    from buildkit.store.tables.remote_blobs import RemoteBlobTable
    from buildkit.store.tables.tombstones import TombstoneTable
    from buildkit.store.tables.verdicts import ChecksumTable, VerdictTable
    from buildkit.store.tables.wheels import WheelTable


class Ledger:
    """The tables of one database, and the changes that concern several of them.

    Raises BuildError for a file that cannot be used (see `Database`). Tables that a build with nothing to do does not
    query are loaded at their first use.
    """

    def __init__(self, path: Path, *, alone: bool = False) -> None:
        """Open the file; ``alone`` excludes other processes."""
        self.database = Database(path, alone=alone)
        self.layers = LayerTable(self.database)
        self.files = FileTable(self.database)
        self.builds = BuildTable(self.database)
        self.collision_checks = CollisionCheckTable(self.database)

    @cached_property
    def wheels(self) -> WheelTable:
        """Wheels that were compiled here."""
        from buildkit.store.tables.wheels import WheelTable

        return WheelTable(self.database)

    @cached_property
    def tombstones(self) -> TombstoneTable:
        """Why layers are gone."""
        from buildkit.store.tables.tombstones import TombstoneTable

        return TombstoneTable(self.database)

    @cached_property
    def downloads(self) -> DownloadTable:
        """Files that were fetched."""
        from buildkit.store.tables.downloads import DownloadTable

        return DownloadTable(self.database)

    @cached_property
    def remote_blobs(self) -> RemoteBlobTable:
        """Blobs that registries have."""
        from buildkit.store.tables.remote_blobs import RemoteBlobTable

        return RemoteBlobTable(self.database)

    @cached_property
    def natives(self) -> NativeTable:
        """Facts about native files in blobs."""
        from buildkit.store.tables.natives import NativeTable

        return NativeTable(self.database)

    @cached_property
    def starts(self) -> StartTable:
        """Findings about sets of layers that may not start."""
        from buildkit.store.tables.natives import StartTable

        return StartTable(self.database)

    @cached_property
    def derivations(self) -> DerivationTable:
        """What was measured of derived models."""
        from buildkit.store.tables.derivations import DerivationTable

        return DerivationTable(self.database)

    @cached_property
    def verdicts(self) -> VerdictTable:
        """Scans of model files."""
        from buildkit.store.tables.verdicts import VerdictTable

        return VerdictTable(self.database)

    @cached_property
    def checksums(self) -> ChecksumTable:
        """SHA-512 checksums of scanned files."""
        from buildkit.store.tables.verdicts import ChecksumTable

        return ChecksumTable(self.database)

    def close(self) -> None:
        """Close the database."""
        self.database.close()

    def add_layer(self, layer: LayerIdentity, result: LayerResult, contents: Sequence[tuple[str, str]] | None) -> None:
        """Record a layer that was built here, with its listing; None if that is not known."""
        listing = b"" if contents is None else pack_listing(contents)
        prefixes = None if contents is None else path_prefixes_of(contents)
        with self.database.transaction():
            self.layers.put(layer, result, listing, prefixes, built=True)
            self.tombstones.delete([layer.key])

    def add_remote_layer(
        self, layer: LayerIdentity, result: LayerResult, prefixes: Sequence[str], *, only_at: str = ""
    ) -> None:
        """Record a layer that another machine built; of its paths only the prefixes are known.

        ``only_at`` names the registry's repository while the blobs are not in the local cache.
        """
        with self.database.transaction():
            self.layers.put(layer, result, b"", prefixes, built=False)
            self.tombstones.delete([layer.key])
            if only_at:
                self.tombstones.add([(layer.key, layer.name)], f"shared, {only_at}")

    def forget_remote_layer(self, key: Key) -> None:
        """Delete a layer that another machine built, and that the registry does not have after all."""
        with self.database.transaction():
            self.layers.delete(key)
            self.tombstones.delete([key])

    def last_recipes(self, stage: str, image: str) -> dict[str, str]:
        """Return layer name to recipe of the last build of a stage's image; empty before the first."""
        builds = self.builds.last(stage, image, 1)
        if not builds:
            return {}
        with self.database.decoding():
            names = {layer["key"].removeprefix("sha256:"): layer["name"] for layer in builds[0][1]["layers"]}
        return {names[key]: recipe for key, recipe in self.layers.recipes(list(names)).items()}
