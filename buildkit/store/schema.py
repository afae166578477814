"""The schema of the ledger: its migrations, its version, and the columns that a row's sum covers.

``PRAGMA user_version`` holds the version; ``MIGRATIONS[n]`` leads from version n to n + 1. Tables (version 10); a star
marks those whose rows have a keyed sum (column ``sum``):

    layers *    key, kind, name, recipe (JSON), blobs (JSON), config (JSON), contents (sealed zlib JSON), seconds,
                built, used, times   how often it was built; a row outlives its blobs, so that an evicted layer is known
                contents               the listing (layers/tar/listing.py), empty if it is not known
                claims (JSON)          path prefixes (layers/path_prefixes.py), empty if they are not known
    wheels *    key, recipe, file, sha256, seconds, built, used          compiled from sdists and source trees
    downloads * sha256, name, size, seconds, fetched, used
    files *     device, inode, size, mtime_ns, ctime_ns, sha256, hashed_ns          the stat index
    listings *  place, stats, hashed_ns, hashes          many rows of files that were all believed, in one
    builds *    id, stage, image, digest, started, seconds, report (JSON)
    tombstones* key, name, why, at          layers whose blobs were removed on purpose, until they are built again
    checked     key          keyed sums of sets of layers without path collisions
    remote *    repository, digest, seen          blobs that a registry has
    verdicts *  sha256, rules, scan (JSON), seconds, scanned, used          scans of model files
    checksums * sha256, sha512, used          files that were scanned
    natives *   digest, facts (zlib JSON), at          native files of blobs
    starts *    key, said (JSON), at          findings about sets of layers that may not start
    derivations * key, report (JSON), at          what was measured of derived models, by the key of their derivation

Times are seconds since the epoch unless the name ends in ``_ns``.
"""

from __future__ import annotations

MIGRATIONS = (
    """
CREATE TABLE layers (key TEXT PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL, recipe TEXT NOT NULL,
  blobs TEXT NOT NULL, env TEXT NOT NULL, contents BLOB NOT NULL,
  seconds REAL NOT NULL, built REAL NOT NULL, used REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE wheels (key TEXT PRIMARY KEY, recipe TEXT NOT NULL, file TEXT NOT NULL, sha256 TEXT NOT NULL,
  seconds REAL NOT NULL, built REAL NOT NULL, used REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE files (device INTEGER, inode INTEGER, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
  ctime_ns INTEGER NOT NULL, sha256 TEXT NOT NULL, hashed_ns INTEGER NOT NULL,
  PRIMARY KEY (device, inode)) WITHOUT ROWID;
CREATE TABLE builds (id INTEGER PRIMARY KEY, stage TEXT NOT NULL, image TEXT NOT NULL, digest TEXT NOT NULL,
  started REAL NOT NULL, seconds REAL NOT NULL, report TEXT NOT NULL);
CREATE INDEX builds_of_stage ON builds (stage, id);
CREATE TABLE phases (build INTEGER NOT NULL REFERENCES builds (id), name TEXT NOT NULL, seconds REAL NOT NULL);
CREATE TABLE tombstones (key TEXT PRIMARY KEY, name TEXT NOT NULL, why TEXT NOT NULL, at REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE checked (key TEXT PRIMARY KEY) WITHOUT ROWID;
""",
    """
ALTER TABLE layers ADD COLUMN times INTEGER NOT NULL DEFAULT 1;
ALTER TABLE phases ADD COLUMN cpu REAL NOT NULL DEFAULT 0;
ALTER TABLE phases ADD COLUMN read INTEGER NOT NULL DEFAULT 0;
ALTER TABLE phases ADD COLUMN written INTEGER NOT NULL DEFAULT 0;
ALTER TABLE layers ADD COLUMN claims TEXT NOT NULL DEFAULT '';
ALTER TABLE layers ADD COLUMN sum TEXT NOT NULL DEFAULT '';
CREATE TABLE downloads (sha256 TEXT PRIMARY KEY, name TEXT NOT NULL, size INTEGER NOT NULL, seconds REAL NOT NULL,
  fetched REAL NOT NULL, used REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE remote (repository TEXT, digest TEXT, seen REAL NOT NULL, PRIMARY KEY (repository, digest)) WITHOUT ROWID;
""",
    """
CREATE TABLE verdicts (sha256 TEXT, rules TEXT, scan TEXT NOT NULL, seconds REAL NOT NULL, scanned REAL NOT NULL,
  used REAL NOT NULL, PRIMARY KEY (sha256, rules)) WITHOUT ROWID;
CREATE TABLE checksums (sha256 TEXT PRIMARY KEY, sha512 TEXT NOT NULL, used REAL NOT NULL) WITHOUT ROWID;
""",
    """
CREATE TABLE natives (digest TEXT PRIMARY KEY, facts BLOB NOT NULL, at REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE starts (key TEXT PRIMARY KEY, said TEXT NOT NULL, at REAL NOT NULL) WITHOUT ROWID;
""",
    """
UPDATE layers SET sum = sum_of(key, kind, name, blobs, env, seconds, built, times, claims)
  WHERE sum IN ('', sum_of(key, blobs, env));
ALTER TABLE wheels ADD COLUMN sum TEXT NOT NULL DEFAULT '';
UPDATE wheels SET sum = sum_of(key, file, sha256, seconds, built);
ALTER TABLE files ADD COLUMN sum TEXT NOT NULL DEFAULT '';
UPDATE files SET sum = sum_of(device, inode, size, mtime_ns, ctime_ns, sha256, hashed_ns);
ALTER TABLE downloads ADD COLUMN sum TEXT NOT NULL DEFAULT '';
UPDATE downloads SET sum = sum_of(sha256, name, size, seconds, fetched);
ALTER TABLE builds ADD COLUMN sum TEXT NOT NULL DEFAULT '';
UPDATE builds SET sum = sum_of(stage, image, digest, started, seconds, report);
ALTER TABLE tombstones ADD COLUMN sum TEXT NOT NULL DEFAULT '';
UPDATE tombstones SET sum = sum_of(key, name, why, at);
ALTER TABLE remote ADD COLUMN sum TEXT NOT NULL DEFAULT '';
UPDATE remote SET sum = sum_of(repository, digest, seen);
ALTER TABLE verdicts ADD COLUMN sum TEXT NOT NULL DEFAULT '';
UPDATE verdicts SET sum = sum_of(sha256, rules, scan, seconds, scanned);
ALTER TABLE checksums ADD COLUMN sum TEXT NOT NULL DEFAULT '';
UPDATE checksums SET sum = sum_of(sha256, sha512);
ALTER TABLE natives ADD COLUMN sum TEXT NOT NULL DEFAULT '';
UPDATE natives SET sum = sum_of(digest, facts, at);
ALTER TABLE starts ADD COLUMN sum TEXT NOT NULL DEFAULT '';
UPDATE starts SET sum = sum_of(key, said, at);
""",
    # Listings tell executable files from others now, and have the folders of roots: they are read again when needed.
    # Images of registries have a config now: they are pulled again.
    """
UPDATE layers SET claims = '', sum = sum_of(key, kind, name, blobs, env, seconds, built, times, '')
  WHERE kind IN ('root', 'run') AND sum = sum_of(key, kind, name, blobs, env, seconds, built, times, claims);
UPDATE layers SET env = '{}', sum = sum_of(key, kind, name, blobs, '{}', seconds, built, times, claims)
  WHERE sum = sum_of(key, kind, name, blobs, env, seconds, built, times, claims);
UPDATE layers SET contents = x'';
ALTER TABLE layers RENAME COLUMN env TO config;
DELETE FROM layers WHERE kind = 'image';
DELETE FROM checked;
""",
    """
DELETE FROM checked;
UPDATE layers SET contents = x'';
UPDATE layers SET sum = keyed_sum_of('layers', key, kind, name, blobs, config, seconds, built, times, claims)
  WHERE sum = sum_of(key, kind, name, blobs, config, seconds, built, times, claims);
UPDATE wheels SET sum = keyed_sum_of('wheels', key, file, sha256, seconds, built)
  WHERE sum = sum_of(key, file, sha256, seconds, built);
UPDATE files SET sum = keyed_sum_of('files', device, inode, size, mtime_ns, ctime_ns, sha256, hashed_ns)
  WHERE sum = sum_of(device, inode, size, mtime_ns, ctime_ns, sha256, hashed_ns);
UPDATE downloads SET sum = keyed_sum_of('downloads', sha256, name, size, seconds, fetched)
  WHERE sum = sum_of(sha256, name, size, seconds, fetched);
UPDATE builds SET sum = keyed_sum_of('builds', stage, image, digest, started, seconds, report)
  WHERE sum = sum_of(stage, image, digest, started, seconds, report);
UPDATE tombstones SET sum = keyed_sum_of('tombstones', key, name, why, at)
  WHERE sum = sum_of(key, name, why, at);
UPDATE remote SET sum = keyed_sum_of('remote', repository, digest, seen)
  WHERE sum = sum_of(repository, digest, seen);
UPDATE verdicts SET sum = keyed_sum_of('verdicts', sha256, rules, scan, seconds, scanned)
  WHERE sum = sum_of(sha256, rules, scan, seconds, scanned);
UPDATE checksums SET sum = keyed_sum_of('checksums', sha256, sha512)
  WHERE sum = sum_of(sha256, sha512);
UPDATE natives SET sum = keyed_sum_of('natives', digest, facts, at)
  WHERE sum = sum_of(digest, facts, at);
UPDATE starts SET sum = keyed_sum_of('starts', key, said, at)
  WHERE sum = sum_of(key, said, at);
""",
    """
CREATE TABLE derivations (key TEXT PRIMARY KEY, report TEXT NOT NULL, at REAL NOT NULL, sum TEXT NOT NULL DEFAULT '')
  WITHOUT ROWID;
""",
    # Reports of builds say what phases took, and nothing read the table.
    """
DROP TABLE phases;
""",
    """
CREATE TABLE listings (place TEXT PRIMARY KEY, stats TEXT NOT NULL, hashed_ns INTEGER NOT NULL, hashes TEXT NOT NULL,
  sum TEXT NOT NULL DEFAULT '') WITHOUT ROWID;
""",
)
VERSION = len(MIGRATIONS)

# Columns covered by a row's sum. Left out: what changes when a row is used, recipes (verified by their keys),
# and contents, which are sealed: what another machine built gets them later.
SUMMED = {
    "layers": "key, kind, name, blobs, config, seconds, built, times, claims",
    "wheels": "key, file, sha256, seconds, built",
    "files": "device, inode, size, mtime_ns, ctime_ns, sha256, hashed_ns",
    "listings": "place, stats, hashed_ns, hashes",
    "downloads": "sha256, name, size, seconds, fetched",
    "builds": "stage, image, digest, started, seconds, report",
    "tombstones": "key, name, why, at",
    "remote": "repository, digest, seen",
    "verdicts": "sha256, rules, scan, seconds, scanned",
    "checksums": "sha256, sha512",
    "natives": "digest, facts, at",
    "starts": "key, said, at",
    "derivations": "key, report, at",
}
