"""The first catalogue.

A migration keeps its own copy of what it creates: tables.py moves on, this file does not.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_LIVE = sa.text("retired_in IS NULL")
_LONG = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def _snapshot(name: str, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, sa.ForeignKey("snapshots.id"), nullable=nullable)


def upgrade() -> None:
    """Create all tables."""
    op.create_table(
        "meta",
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
    op.create_table(
        "snapshots",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("time", sa.Float, nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("who", sa.String(200), nullable=False),
        sa.Column("run_id", sa.String(64)),
    )
    op.create_table(
        "assays",
        sa.Column("name", sa.String(200), primary_key=True),
        sa.Column("quantity", sa.String(32), nullable=False),
        sa.Column("n_features", sa.Integer, nullable=False),
        sa.Column("feature_hash", sa.String(64), nullable=False),
        sa.Column("feature_table", sa.String(64), nullable=False),
        _snapshot("published_in"),
    )
    op.create_table(
        "segments",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("assay", sa.String(200), sa.ForeignKey("assays.name"), nullable=False),
        sa.Column("n_samples", sa.Integer, nullable=False),
        sa.Column("n_features", sa.Integer, nullable=False),
        sa.Column("encoding", sa.Text, nullable=False),
        sa.Column("chunk_samples", sa.Integer, nullable=False),
        sa.Column("chunk_features", sa.Integer, nullable=False),
        sa.Column("n_bytes", sa.BigInteger, nullable=False),
        sa.Column("manifest_hash", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        _snapshot("published_in"),
        _snapshot("retired_in", True),
        sa.Column("retired_at", sa.Float),
    )
    op.create_index("ix_segments_assay", "segments", ["assay"])
    op.create_table(
        "rows",
        sa.Column("id", _LONG, primary_key=True, autoincrement=True),
        sa.Column("assay", sa.String(200), sa.ForeignKey("assays.name"), nullable=False),
        sa.Column("sample_id", sa.Text, nullable=False),
        sa.Column("row_hash", sa.String(64), nullable=False),
        _snapshot("published_in"),
        _snapshot("retired_in", True),
        sa.Column("segment_id", sa.String(64), sa.ForeignKey("segments.id"), nullable=False),
        sa.Column("row_index", sa.Integer, nullable=False),
    )
    op.create_index(
        "uq_rows_live", "rows", ["assay", "sample_id"], unique=True, sqlite_where=_LIVE, postgresql_where=_LIVE
    )
    op.create_index("ix_rows_segment", "rows", ["segment_id"])
    op.create_index("ix_rows_published", "rows", ["assay", "published_in"])
    op.create_table(
        "sample_columns",
        sa.Column("id", _LONG, primary_key=True, autoincrement=True),
        sa.Column("sample_id", sa.Text, nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        _snapshot("published_in"),
        _snapshot("retired_in", True),
    )
    op.create_index(
        "uq_sample_columns_live",
        "sample_columns",
        ["sample_id"],
        unique=True,
        sqlite_where=_LIVE,
        postgresql_where=_LIVE,
    )
    op.create_table(
        "staging",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("assay", sa.String(200), nullable=False),
        sa.Column("segment_ids", sa.Text, nullable=False),
        sa.Column("sample_ids", sa.Text, nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("started", sa.String(100), nullable=False),
        sa.Column("heartbeat", sa.Float, nullable=False),
        sa.Column("created", sa.Float, nullable=False),
    )
    op.create_table(
        "runs",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("fingerprint", sa.String(128), nullable=False, unique=True),
        sa.Column("job", sa.String(64), nullable=False),
        sa.Column("output", sa.Text, nullable=False),
        sa.Column("spec", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("started", sa.String(100), nullable=False),
        sa.Column("heartbeat", sa.Float, nullable=False),
        sa.Column("snapshot", sa.Integer, nullable=False),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("finished", sa.Float),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("meta", sa.Text, nullable=False),
        sa.Column("cancel_requested", sa.Boolean, nullable=False),
    )
    op.create_index("ix_runs_state", "runs", ["state"])
    op.create_table(
        "results",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("run_id", sa.String(64), sa.ForeignKey("runs.id")),
        sa.Column("files", sa.Text, nullable=False),
        sa.Column("meta", sa.Text, nullable=False),
        _snapshot("published_in"),
        _snapshot("retired_in", True),
    )
    op.create_index("uq_results_version", "results", ["kind", "name", "version"], unique=True)
    op.create_table(
        "audit",
        sa.Column("id", _LONG, primary_key=True, autoincrement=True),
        sa.Column("time", sa.Float, nullable=False),
        sa.Column("who", sa.String(200), nullable=False),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
    )


def downgrade() -> None:
    """There is nothing before the first catalogue."""
    raise NotImplementedError("the first catalogue has no earlier form")
