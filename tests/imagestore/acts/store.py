"""Uses the image store `$STORE` as whoever runs this: ``add NAME TAR…``, ``read HEX``, ``remove HEX``, ``collect`` …"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import sys
from pathlib import Path

from buildkit.declare.stage import Config
from buildkit.digest import DiffId, Digest
from buildkit.errors import BuildkitError
from buildkit.imagestore.image_store import ImageStore
from buildkit.imagestore.store_use import holding_store_use
from buildkit.layers.tar.blob_stream import TarPiece
from buildkit.layers.tar.member import Compression
from buildkit.oci.blob import Blob
from buildkit.oci.image import Image, Layer


def main(verb: str, *words: str) -> object:
    store = ImageStore.open(Path(os.environ["STORE"]))
    if verb == "add":
        name, *tars = words
        layers = tuple(_add(store, Path(tar).read_bytes()) for tar in tars)
        config = Config(env=(("PATH", "/usr/bin"),))
        if "CONFIG" in os.environ:
            config = pickle.loads(Path(os.environ["CONFIG"]).read_bytes())
        return store.put_image(Image(layers=layers, config=config, arch="amd64"), (name,))
    if verb == "read":
        return hashlib.sha256(b"".join(store.open_tar(DiffId(words[0])))).hexdigest()
    if verb == "remove":
        return store.trees.remove([DiffId(words[0])])
    if verb == "find_alteration":
        return store.find_alteration(DiffId(words[0]))
    if verb == "collect":
        with holding_store_use() as use:
            images = {image.id for image in store.images()} - use.images
            return [tree.hex for tree in store.remove(images, store.trees.all(), use.layers)]
    return getattr(store, verb)()


def _add(store: ImageStore, tar: bytes) -> Layer:
    diff_id = DiffId(hashlib.sha256(tar).hexdigest())
    with store.writing_tree(foreign_owners=True) as sink:
        for at in range(0, len(tar), 1 << 20):
            sink.take([TarPiece(tar[at : at + (1 << 20)])])
        sink.keep(diff_id, len(tar))
    blob = Blob(
        digest=Digest(diff_id.hex), diff_id=diff_id, size=len(tar), unpacked=len(tar), compression=Compression.NONE
    )
    return Layer(blob=blob, history="a test")


if __name__ == "__main__":
    try:
        print(json.dumps(main(*sys.argv[1:])))
    except BuildkitError as error:
        sys.exit(f"{type(error).__name__}: {error.message} ({error.hint})")
