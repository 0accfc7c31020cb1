"""A published result and its tables."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
import pyarrow as pa

from sjd_dask.errors import SpecError
from sjd_dask.store.catalogue.results import BundleFile, ResultRecord, TableFile
from sjd_dask.store.files import Files
from sjd_dask.store.tables import open_table

MAIN = "table"


class Result:
    """One version of a result.

    Attributes
    ----------
    kind, name : str
    version : int
    meta : dict
        What was run and on what.
    run : str or None
        The run that made it.
    published_in : int
        The snapshot that showed it first.
    """

    def __init__(self, files: Files, record: ResultRecord) -> None:
        self._files = files
        self.record = record
        self.kind = record.kind
        self.name = record.name
        self.version = record.version
        self.meta = record.meta
        self.run = record.run_id
        self.published_in = record.published_in

    def __repr__(self) -> str:
        return f"<Result {self.ref}>"

    @property
    def ref(self) -> str:
        """``kind/name@version``."""
        return f"{self.kind}/{self.name}@{self.version}"

    @property
    def tables(self) -> list[str]:
        """Names of the tables; the main one is ``"table"``. A layer has none."""
        return [name for name, file in self.record.files.items() if isinstance(file, TableFile)]

    @property
    def path(self) -> str:
        """Where the main table lies (path or URL)."""
        return self._files.where(self.file().path)

    def file(self, name: str = MAIN) -> TableFile:
        """The stored file of a table.

        Raises
        ------
        SpecError
            The result has no table of that name.
        """
        found = self.record.files.get(name)
        if isinstance(found, TableFile):
            return found
        if isinstance(found, BundleFile):
            raise SpecError(f"{name!r} of {self.ref} is a bundle, not a table; it can't be read as one")
        if found is not None:
            raise SpecError(f"{name!r} of {self.ref} is a file of arrays, not a table; it can't be read as one")
        if self.kind == "layers":
            raise SpecError(f"{self.ref} is a matrix, not a table; open it with cohort.layer({self.ref!r})")
        if not self.record.files:
            raise SpecError(f"the tables of {self.ref} were removed, as an old night's (sjd gc --keep-nights)")
        raise SpecError(f"{self.ref} has no table {name!r}; it has: {', '.join(self.tables) or 'none'}")

    @property
    def bundle(self) -> BundleFile:
        """The stored bundle of a model.

        Raises
        ------
        SpecError
            The result has none.
        """
        found = self.record.files.get("bundle")
        if not isinstance(found, BundleFile):
            raise SpecError(f"{self.ref} has no bundle; only models have one")
        return found

    def table(self, name: str = MAIN, columns: list[str] | None = None) -> pa.Table:
        """A table as Arrow, all of it or some columns."""
        with open_table(self._files, self.file(name)) as opened:
            return opened.read(columns=columns)

    def to_pandas(self, name: str = MAIN, columns: list[str] | None = None) -> pd.DataFrame:
        """A table as pandas."""
        frame: pd.DataFrame = self.table(name, columns).to_pandas()
        return frame

    def batches(self, name: str = MAIN, rows: int = 65_536) -> Iterator[pa.RecordBatch]:
        """A table in pieces of bounded size."""
        with open_table(self._files, self.file(name)) as opened:
            yield from opened.iter_batches(batch_size=rows)

    def schema(self, name: str = MAIN) -> pa.Schema:
        """Columns and types of a table."""
        with open_table(self._files, self.file(name)) as opened:
            return opened.schema_arrow
