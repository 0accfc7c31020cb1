"""Models in production, the history of calls, withdrawn people, leases, and changes that were undone."""

from __future__ import annotations

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_LIVE = sa.text("retired_in IS NULL")
_LONG = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def _snapshot(name: str, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, sa.ForeignKey("snapshots.id"), nullable=nullable)


def upgrade() -> None:
    """Add the tables and the column, let a version come back, and make the cohort's key for ids where there is none."""
    op.add_column("snapshots", sa.Column("undoes", sa.Integer, nullable=True))
    op.drop_index("uq_results_version", "results")
    op.create_index(
        "uq_results_live",
        "results",
        ["kind", "name", "version"],
        unique=True,
        sqlite_where=_LIVE,
        postgresql_where=_LIVE,
    )
    op.create_table(
        "promotions",
        sa.Column("id", _LONG, primary_key=True, autoincrement=True),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("action", sa.String(16), nullable=False),
        sa.Column("who", sa.String(200), nullable=False),
        sa.Column("time", sa.Float, nullable=False),
        sa.Column("why", sa.Text, nullable=False),
        _snapshot("published_in"),
        _snapshot("retired_in", True),
    )
    op.create_index(
        "uq_promotions_live", "promotions", ["name"], unique=True, sqlite_where=_LIVE, postgresql_where=_LIVE
    )
    op.create_table(
        "calls",
        sa.Column("id", _LONG, primary_key=True, autoincrement=True),
        sa.Column("output", sa.String(200), nullable=False),
        sa.Column("sample_id", sa.Text, nullable=False),
        sa.Column("person_id", sa.Text),
        sa.Column("visit", sa.Text),
        sa.Column("date", sa.Text),
        sa.Column("status", sa.String(32), nullable=False),
        sa.Column("call", sa.Text),
        sa.Column("top_class", sa.Text),
        sa.Column("confidence", sa.Float),
        sa.Column("model", sa.String(250)),
        sa.Column("run_id", sa.String(64)),
        sa.Column("row_hash", sa.String(64)),
        _snapshot("published_in"),
        _snapshot("retired_in", True),
    )
    op.create_index(
        "uq_calls_live", "calls", ["output", "sample_id"], unique=True, sqlite_where=_LIVE, postgresql_where=_LIVE
    )
    op.create_index("ix_calls_sample", "calls", ["output", "sample_id"])
    op.create_index("ix_calls_person", "calls", ["output", "person_id"])
    op.create_table(
        "tombstones",
        sa.Column("keyed_hash", sa.String(64), primary_key=True),
        _snapshot("published_in"),
    )
    op.create_table(
        "leases",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("started", sa.String(100), nullable=False),
        sa.Column("heartbeat", sa.Float, nullable=False),
    )
    connection = op.get_bind()
    meta = sa.table("meta", sa.column("key", sa.String), sa.column("value", sa.Text))
    if connection.execute(sa.select(meta.c.key).where(meta.c.key == "id_key")).scalar() is None:
        connection.execute(sa.insert(meta).values(key="id_key", value=secrets.token_hex(32)))


def downgrade() -> None:
    """Nothing goes back: an older package refuses the newer catalogue."""
    raise NotImplementedError("a catalogue is not taken back to an earlier form; restore a backup")
