"""PyTorch's persistent ids, and the storages that follow the pickles of its legacy format."""

from __future__ import annotations

from dataclasses import field

from buildkit.lazy_dataclass import dataclass
from buildkit.scan.pickle.values import Global, Value

MAGIC = 0x1950A86A20F9469CFC6C
STREAMS = 5  # magic number, protocol, system, object, keys of the storages
MOST = 1_000_000

BYTES = {
    "Double": 8, "Float": 4, "Half": 2, "BFloat16": 2, "Long": 8, "Int": 4, "Short": 2, "Char": 1, "Byte": 1, "Bool": 1,
    "Untyped": 1, "ComplexDouble": 16, "ComplexFloat": 8, "QInt8": 1, "QUInt8": 1, "QInt32": 4, "QUInt4x2": 1,
    "QUInt2x4": 1,
}  # fmt: skip


@dataclass(slots=True)
class TorchStorages:
    """The storages that a pickle refers to: the bytes of each by key, None if unknown."""

    sizes: dict[str, int | None] = field(default_factory=dict)

    def take(self, key: Value) -> bool:
        """Record a persistent id and return True, if it is that of a storage."""
        if not isinstance(key, tuple) or len(key) < 5 or key[0] != "storage":
            return False
        kind, name, count = key[1], key[2], key[4]
        size = None
        if isinstance(kind, Global) and isinstance(count, int):
            width = BYTES.get(kind.name.removesuffix("Storage"))
            size = width * count if width and count >= 0 else None
        if isinstance(name, str) and len(self.sizes) < MOST:
            self.sizes[name] = size
        else:
            self.sizes[""] = None
        return True

    def total(self) -> int | None:
        """Return the size of all storages in the legacy format, each with its eight-byte count; None if unknown."""
        known = [size for size in self.sizes.values() if size is not None]
        return sum(known) + 8 * len(known) if len(known) == len(self.sizes) else None
