"""The shared cache: any OCI registry, through skopeo. Entries are described in ``oci/entry.py``.

What it says is believed as far as the registry is: whoever may write there says what a key came to. Every blob is
held against its digest and its diff_id when it is fetched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from buildkit.cache.blobs import Blobs
from buildkit.cache.intake import take_blob
from buildkit.digest import Digest, Key
from buildkit.errors import BuildError
from buildkit.oci.entry import (
    EMPTY,
    Entry,
    Nonsense,
    decode_entries,
    decode_listing,
    encode_entry,
    encode_listing,
    encode_roster,
    entry_tag,
    roster_tag,
)
from buildkit.oci.ref import Ref
from buildkit.tools.registry import Registries
from buildkit.tools.skopeo import write_layout

Refused = Callable[[str], None]

_ASKED_AT_ONCE = 8


class SharedCache:
    """Entries of one repository. Methods raise RegistryError, BuildError for nonsense, or Interrupted."""

    def __init__(self, repository: Ref, registries: Registries) -> None:
        self.repository = repository
        self._registries = registries

    def roster(self, stage: str, refused: Refused) -> dict[Key, Entry]:
        """The layers of the stage's image that was shared last: one request. ``refused`` is told of nonsense."""
        return self._read(roster_tag(stage), refused)

    def find(self, keys: Iterable[Key], refused: Refused) -> dict[Key, Entry]:
        """What is shared of keys: one request each, several at once. ``refused`` is told of nonsense."""
        with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:
            asked = [(key, pool.submit(self._read, entry_tag(key), refused)) for key in keys]
            return {key: found[key] for key, future in asked if key in (found := future.result())}

    def listing(self, key: Key) -> list[tuple[str, str]]:
        """The paths that a layer owns, with their content hashes."""
        ref = self.repository.tagged(entry_tag(key))
        try:
            return decode_listing(self._registries.config(ref))
        except Nonsense as error:
            raise BuildError(f"{ref}: {error}") from error

    def fetch(self, entry: Entry, blobs: Blobs) -> int:
        """Bring an entry's blobs into the cache; returns their bytes. Raises MismatchError for other bytes too."""
        ref = self.repository.tagged(entry_tag(entry.key))
        with blobs.working_folder() as folder:
            self._registries.fetch(ref, folder)
            for blob in entry.made.blobs:
                if not (folder / blob.digest.hex).is_file():
                    raise BuildError(f"{ref}: it has no layer {blob.digest.short}")
                take_blob(folder / blob.digest.hex, blob.digest, blob.diff_id, blobs)
        return sum(blob.size for blob in entry.made.blobs)

    def publish(self, entry: Entry, contents: Sequence[tuple[str, str]], blobs: Blobs) -> tuple[Digest, ...]:
        """Share what a key came to; returns the blobs that the registry had not."""
        config = encode_listing(contents)
        with blobs.working_folder() as folder:
            for blob in entry.made.blobs:
                (folder / blob.digest.hex).symlink_to(blobs.path(blob.digest))
            return self._push(folder, encode_entry(entry, config), config, entry_tag(entry.key))

    def publish_roster(self, stage: str, entries: Iterable[Entry], blobs: Blobs) -> None:
        """Say of what the stage's image consists now."""
        with blobs.working_folder() as folder:
            self._push(folder, encode_roster(entries), EMPTY, roster_tag(stage))

    def _push(self, folder: Path, manifest: bytes, config: bytes, tag: str) -> tuple[Digest, ...]:
        write_layout(folder, manifest, config)
        return self._registries.push(folder, self.repository.tagged(tag))

    def _read(self, tag: str, refused: Refused) -> dict[Key, Entry]:
        ref = self.repository.tagged(tag)
        manifest = self._registries.manifest(ref)
        try:
            return {} if manifest is None else decode_entries(manifest)
        except Nonsense as error:
            refused(f"{ref}: {error}")
            return {}
