"""Tables of the catalogue. Each change of them comes with a migration in `migrations/versions`."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    text,
)

# Oldest first. A database at any other revision was written by a newer package.
REVISIONS: Final = ("0001", "0002", "0003")
# Of everything else on disk. A new table or column raises the revision alone: it can be made where it is missing.
FORMAT_VERSION: Final = 1

metadata = MetaData()
_LIVE = text("retired_in IS NULL")

meta = Table(
    "meta",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)

# Every published change has a number; they are handed out inside the write lock, so they are in order of commit.
snapshots = Table(
    "snapshots",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("time", Float, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("message", Text, nullable=False),
    Column("who", String(200), nullable=False),
    Column("run_id", String(64)),
    Column("undoes", Integer),  # of a rollback: the change that it took back
)

# An assay whose name holds an '@' is a layer's (see store/layer.py): nobody but the store can make one.
assays = Table(
    "assays",
    metadata,
    Column("name", String(200), primary_key=True),
    Column("quantity", String(200), nullable=False),
    Column("n_features", Integer, nullable=False),
    Column("feature_hash", String(64), nullable=False),
    Column("feature_table", String(64), nullable=False),
    Column("published_in", Integer, ForeignKey("snapshots.id"), nullable=False),
)

segments = Table(
    "segments",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("assay", String(200), ForeignKey("assays.name"), nullable=False, index=True),
    Column("n_samples", Integer, nullable=False),
    Column("n_features", Integer, nullable=False),
    Column("encoding", Text, nullable=False),
    Column("chunk_samples", Integer, nullable=False),
    Column("chunk_features", Integer, nullable=False),
    Column("n_bytes", BigInteger, nullable=False),
    Column("manifest_hash", String(64), nullable=False),
    Column("state", String(16), nullable=False),  # live | retired | removed
    Column("published_in", Integer, ForeignKey("snapshots.id"), nullable=False),
    Column("retired_in", Integer, ForeignKey("snapshots.id")),
    Column("retired_at", Float),
)

rows = Table(
    "rows",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("assay", String(200), ForeignKey("assays.name"), nullable=False),
    Column("sample_id", Text, nullable=False),
    Column("row_hash", String(64), nullable=False),
    Column("published_in", Integer, ForeignKey("snapshots.id"), nullable=False),
    Column("retired_in", Integer, ForeignKey("snapshots.id")),
    Column("segment_id", String(64), ForeignKey("segments.id"), nullable=False),
    Column("row_index", Integer, nullable=False),
    Column("source_hash", String(64)),  # of a layer's row: the hash of the row it was made from
    # Two writers of one sample meet here: only one live row a sample can exist.
    Index("uq_rows_live", "assay", "sample_id", unique=True, sqlite_where=_LIVE, postgresql_where=_LIVE),
    Index("ix_rows_segment", "segment_id"),
    Index("ix_rows_published", "assay", "published_in"),
)

sample_columns = Table(
    "sample_columns",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("sample_id", Text, nullable=False),
    Column("content", Text, nullable=False),
    Column("published_in", Integer, ForeignKey("snapshots.id"), nullable=False),
    Column("retired_in", Integer, ForeignKey("snapshots.id")),
    Index("uq_sample_columns_live", "sample_id", unique=True, sqlite_where=_LIVE, postgresql_where=_LIVE),
)

staging = Table(
    "staging",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("kind", String(16), nullable=False),  # ingest | compact
    Column("assay", String(200), nullable=False),
    Column("segment_ids", Text, nullable=False),
    Column("sample_ids", Text, nullable=False),
    Column("host", String(255), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("started", String(100), nullable=False),
    Column("heartbeat", Float, nullable=False),
    Column("created", Float, nullable=False),
)

runs = Table(
    "runs",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("fingerprint", String(128), nullable=False, unique=True),
    Column("job", String(64), nullable=False),
    Column("output", Text, nullable=False),
    Column("spec", Text, nullable=False),
    Column("state", String(16), nullable=False),  # running | interrupted | failed | cancelled | published
    Column("epoch", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("host", String(255), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("started", String(100), nullable=False),
    Column("heartbeat", Float, nullable=False),
    Column("snapshot", Integer, nullable=False),
    Column("created", Float, nullable=False),
    Column("finished", Float),
    Column("message", Text, nullable=False),
    Column("meta", Text, nullable=False),
    Column("cancel_requested", Boolean, nullable=False),
    Index("ix_runs_state", "state"),
)

results = Table(
    "results",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("kind", String(64), nullable=False),
    Column("name", String(200), nullable=False),
    Column("version", Integer, nullable=False),
    Column("run_id", String(64), ForeignKey("runs.id")),
    Column("files", Text, nullable=False),
    Column("meta", Text, nullable=False),
    Column("published_in", Integer, ForeignKey("snapshots.id"), nullable=False),
    Column("retired_in", Integer, ForeignKey("snapshots.id")),
    # A version that was taken back and comes again has two records, and one at a time is live.
    Index("uq_results_live", "kind", "name", "version", unique=True, sqlite_where=_LIVE, postgresql_where=_LIVE),
)

# NAME@production is the live record of that name. `action`: promote, or rollback (to a version that was there before).
promotions = Table(
    "promotions",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("name", String(200), nullable=False),
    Column("version", Integer, nullable=False),
    Column("action", String(16), nullable=False),
    Column("who", String(200), nullable=False),
    Column("time", Float, nullable=False),
    Column("why", Text, nullable=False),
    Column("published_in", Integer, ForeignKey("snapshots.id"), nullable=False),
    Column("retired_in", Integer, ForeignKey("snapshots.id")),
    Index("uq_promotions_live", "name", unique=True, sqlite_where=_LIVE, postgresql_where=_LIVE),
)

# Every call that was ever published; a night retires and inserts only what changed. `visit` is a value as JSON.
calls = Table(
    "calls",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("output", String(200), nullable=False),
    Column("sample_id", Text, nullable=False),
    Column("person_id", Text),
    Column("visit", Text),
    Column("date", Text),
    Column("status", String(32), nullable=False),
    Column("call", Text),
    Column("top_class", Text),
    Column("confidence", Float),
    Column("model", String(250)),
    Column("run_id", String(64)),
    Column("row_hash", String(64)),
    Column("published_in", Integer, ForeignKey("snapshots.id"), nullable=False),
    Column("retired_in", Integer, ForeignKey("snapshots.id")),
    Index("uq_calls_live", "output", "sample_id", unique=True, sqlite_where=_LIVE, postgresql_where=_LIVE),
    Index("ix_calls_sample", "output", "sample_id"),
    Index("ix_calls_person", "output", "person_id"),
)

# Withdrawn people, by hashes that only the cohort's key can make.
tombstones = Table(
    "tombstones",
    metadata,
    Column("keyed_hash", String(64), primary_key=True),
    Column("published_in", Integer, ForeignKey("snapshots.id"), nullable=False),
)

# What only one process may do at a time, though it reads and writes for long.
leases = Table(
    "leases",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("host", String(255), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("started", String(100), nullable=False),
    Column("heartbeat", Float, nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("time", Float, nullable=False),
    Column("who", String(200), nullable=False),
    Column("action", String(64), nullable=False),
    Column("detail", Text, nullable=False),
)
