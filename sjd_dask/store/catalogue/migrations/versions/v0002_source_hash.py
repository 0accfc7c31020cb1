"""Rows of a layer carry the hash of the row they were made from; a layer's variable may have a long name."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; rows that are there are rows of assays, which have no source."""
    op.add_column("rows", sa.Column("source_hash", sa.String(64), nullable=True))
    if op.get_bind().dialect.name == "postgresql":
        # SQLite keeps no lengths.
        op.alter_column("assays", "quantity", type_=sa.String(200), existing_type=sa.String(32))


def downgrade() -> None:
    """Nothing goes back: an older package refuses the newer catalogue."""
    raise NotImplementedError("a catalogue is not taken back to an earlier form; restore a backup")
