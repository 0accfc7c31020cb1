"""What only statistics knows of stored numbers: which are copies of one person's. The jobs room tells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from sjd_dask.store.arrays import Arrays
from sjd_dask.store.catalogue.results import ResultRecord
from sjd_dask.store.withdraw.ids import Leaving


@dataclass(frozen=True)
class Verdict:
    """What becomes of stored numbers.

    Attributes
    ----------
    content : Any
        What takes their place; None where they stay.
    blocked : list of str
        Why they may not be used any more.
    trained : bool
        People who leave trained this model.
    """

    content: Any = None
    blocked: list[str] = field(default_factory=list)
    trained: bool = False


class Rules(Protocol):
    """The judge of stored numbers."""

    def arrays(self, result: ResultRecord, arrays: Arrays, leaving: Leaving) -> Verdict:
        """Parameters of a method."""

    def table(self, result: ResultRecord, name: str, read: Callable[[str], Any], leaving: Leaving) -> Verdict:
        """A companion table; `read` gives any table of the result as it was."""

    def bundle(self, result: ResultRecord, blobs: dict[str, bytes], leaving: Leaving, key: bytes) -> Verdict:
        """A model. `key` is the cohort's, for training records."""
