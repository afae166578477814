"""Golden bytes of what other machines read: cache records, stage indexes, listings, referrers and attestations.

Compressed parts are compared unpacked, because zlib's output may differ between versions.
"""

from __future__ import annotations

import base64
import json
import zlib

from buildkit.digest import DiffId, Digest, Key
from buildkit.layers.tar.member import Compression
from buildkit.native import NOTHING
from buildkit.oci.blob import Blob, LayerResult
from buildkit.remote.artifact import ArtifactPart, decode_index, encode_artifact, encode_cosign, encode_index
from buildkit.remote.cache_record import CacheRecord, encode_record
from buildkit.remote.listing import encode_listing
from buildkit.remote.stage_index import FactsBlob, encode_stage_facts, encode_stage_index
from buildkit.supply.statement import Envelope, Statement, render_envelope, render_statement

A, B, C = "a" * 64, "b" * 64, "c" * 64
RECORD = CacheRecord(
    key=Key(A),
    kind="wheels",
    name="deps/größe",
    result=LayerResult(
        blobs=(
            Blob(digest=Digest(B), diff_id=DiffId(C), size=3, unpacked=4, compression=Compression.ZSTD),
            Blob(digest=Digest(C), diff_id=DiffId(A), size=5, unpacked=6, compression=Compression.GZIP),
            Blob(digest=Digest(A), diff_id=DiffId(B), size=7, unpacked=7, compression=Compression.NONE),
        ),
        seconds=1.23456,
        config='{"Env":["A=1"],"User":"u"}',
    ),
    path_prefixes=("opt/venv",),
    native_facts=(b"facts", b"", NOTHING),
)
DESCRIPTION = (
    f'{{"blobs":[["{B}","{C}",3,4,"zstd"],["{C}","{A}",5,6,"gzip"],["{A}","{B}",7,7,"none"]],'
    f'"claims":["opt/venv"],"config":{{"Env":["A=1"],"User":"u"}},"key":"{A}","kind":"wheels","name":"deps/größe",'
)
PART = ArtifactPart.of("text/x", b"data", {"b": "ü", "a": "1"})
DATA = "3a6eb0790f39ac87c94f3856b2dd2c5d110e6811602261a9a923d3bb23adc8b7"
PART_JSON = f'{{"mediaType":"text/x","digest":"sha256:{DATA}","size":4,"annotations":{{"a":"1","b":"ü"}}}}'
EMPTY_JSON = (
    '{"mediaType":"application/vnd.oci.empty.v1+json",'
    '"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2}'
)
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"


def split(manifest: bytes) -> tuple[str, str]:
    """The manifest with its annotation replaced by ``…``, and the annotation unpacked."""
    packed = json.loads(manifest)["annotations"]["io.xoe.buildkit.layers"]
    return manifest.decode().replace(packed, "…"), zlib.decompress(base64.b64decode(packed)).decode()


def test_cache_record_has_golden_bytes() -> None:
    manifest, description = split(encode_record(RECORD, b"config"))
    layer = "application/vnd.oci.image.layer.v1.tar"
    assert manifest == (
        f'{{"schemaVersion":2,"mediaType":"{MANIFEST_TYPE}",'
        '"artifactType":"application/vnd.xoe.buildkit.entry.v1+json",'
        '"config":{"mediaType":"application/vnd.xoe.buildkit.listing.v1+zlib",'
        '"digest":"sha256:b79606fb3afea5bd1609ed40b622142f1c98125abcfe89a76a661b0e8e343910","size":6},'
        f'"layers":[{{"mediaType":"{layer}+zstd","digest":"sha256:{B}","size":3}},'
        f'{{"mediaType":"{layer}+gzip","digest":"sha256:{C}","size":5}},'
        f'{{"mediaType":"{layer}","digest":"sha256:{A}","size":7}}],'
        '"annotations":{"io.xoe.buildkit.layers":"…"}}'
    )
    assert description == (f'{{"format":2,"layers":[{DESCRIPTION}"natives":["ZmFjdHM=","","LQ=="],"seconds":1.235}}]}}')


def test_stage_index_has_golden_bytes() -> None:
    manifest, description = split(encode_stage_index([RECORD], FactsBlob(Digest(A), 9)))
    begin = (
        f'{{"schemaVersion":2,"mediaType":"{MANIFEST_TYPE}",'
        f'"artifactType":"application/vnd.xoe.buildkit.roster.v1+json","config":{EMPTY_JSON},"layers":['
    )
    end = '],"annotations":{"io.xoe.buildkit.layers":"…"}}'
    natives = f'{{"mediaType":"application/vnd.xoe.buildkit.natives.v1+zlib","digest":"sha256:{A}","size":9}}'
    assert manifest == f"{begin}{natives}{end}"
    assert description == f'{{"format":2,"layers":[{DESCRIPTION}"seconds":1.235}}]}}'
    assert split(encode_stage_index([RECORD]))[0] == f"{begin}{EMPTY_JSON}{end}"


def test_native_facts_of_a_stage_have_golden_bytes() -> None:
    packed = encode_stage_facts({Digest(A): b"facts", Digest(B): NOTHING}, [Digest(C), Digest(B), Digest(A)])
    assert packed is not None
    assert zlib.decompress(packed).decode() == f'{{"facts":{{"{A}":"ZmFjdHM="}},"format":2,"untold":["{C}"]}}'


def test_listing_has_golden_bytes() -> None:
    packed = encode_listing([("a/ü", A), ("b", "-> ../c"), ("c", f"{B} +x"), ("d", "/"), ("e", "special")])
    assert zlib.decompress(packed).decode() == (
        f'["a/ü","{A}"]\n["b","-> ../c"]\n["c","{B} +x"]\n["d","/"]\n["e","special"]\n'
    )
    assert zlib.decompress(encode_listing(None)) == b"\n"


def test_artifact_has_golden_bytes() -> None:
    assert encode_artifact("x/y", [PART], PART, {"z": "1", "y": "2"}).decode() == (
        f'{{"schemaVersion":2,"mediaType":"{MANIFEST_TYPE}","artifactType":"x/y","config":{EMPTY_JSON},'
        f'"layers":[{PART_JSON}],"subject":{PART_JSON},"annotations":{{"y":"2","z":"1"}}}}'
    )


def test_cosign_manifest_has_golden_bytes() -> None:
    manifest, config = encode_cosign([PART])
    assert config.decode() == (
        f'{{"architecture":"","os":"","config":{{}},"rootfs":{{"type":"layers","diff_ids":["sha256:{DATA}"]}}}}'
    )
    assert manifest.decode() == (
        f'{{"schemaVersion":2,"mediaType":"{MANIFEST_TYPE}",'
        f'"config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{Digest.of(config)}",'
        f'"size":{len(config)}}},"layers":[{PART_JSON}]}}'
    )


def test_referrers_index_has_golden_bytes() -> None:
    begin = '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":['
    index = encode_index((), (), [PART.as_json()])
    assert index.decode() == f"{begin}{PART_JSON}]}}"
    assert encode_index(decode_index(index), (), [PART.as_json()]).decode() == f"{begin}{PART_JSON},{PART_JSON}]}}"


def test_statement_and_envelope_have_golden_bytes() -> None:
    statement = Statement(subjects=(("r/n", Digest(A)),), predicate_type="t", predicate={"b": "ü", "a": 1})
    assert render_statement(statement).decode() == (
        '{"_type":"https://in-toto.io/Statement/v1","predicate":{"a":1,"b":"ü"},"predicateType":"t",'
        f'"subject":[{{"digest":{{"sha256":"{A}"}},"name":"r/n"}}]}}'
    )
    envelope = Envelope(payload_type="t", payload=b"body", signatures=(b"1", b"\xff"))
    assert render_envelope(envelope) == (
        b'{"payload":"Ym9keQ==","payloadType":"t","signatures":[{"keyid":"","sig":"MQ=="},{"keyid":"","sig":"/w=="}]}'
    )
