"""A matrix on its way from a source to a segment: in memory while small, else in a nameless file.

The file has no name in its folder, so nothing is left behind however the process ends. It is written, not mapped,
while it grows: a full disk is then an error that can be told, not a bus error.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from sjd_dask.store.files import storage_error

MEMORY_LIMIT = 256 << 20


class Spool:
    """Rows of one width, appended in the order of arrival and then read in any order.

    Parameters
    ----------
    n_minor : int
        Width of a row.
    dtype : numpy dtype
    folder : Path, optional
        Where the file goes once the rows outgrow memory; the system's temporary folder by default.
    memory_limit : int
        Bytes kept in memory.

    Notes
    -----
    Memory: at most `memory_limit` and one block. Beyond that, pages of the file that the system may drop at any time.
    """

    def __init__(
        self, n_minor: int, dtype: np.dtype[Any], folder: Path | None = None, memory_limit: int = MEMORY_LIMIT
    ) -> None:
        self.n_minor = n_minor
        self.dtype = np.dtype(dtype)
        self.n_major = 0
        self.folder = folder
        self.memory_limit = memory_limit
        self._blocks: list[npt.NDArray[Any]] = []
        self._file: IO[bytes] | None = None
        self._array: npt.NDArray[Any] | None = None

    @property
    def on_disk(self) -> bool:
        """Have the rows outgrown memory?"""
        return self._file is not None

    @property
    def n_bytes(self) -> int:
        """Bytes of the rows so far."""
        return self.n_major * self.n_minor * self.dtype.itemsize

    def append(self, block: npt.NDArray[Any]) -> None:
        """Add rows, shape (rows, n_minor)."""
        block = np.ascontiguousarray(block, dtype=self.dtype)
        if self._file is None and self.n_bytes + block.nbytes > self.memory_limit:
            self._to_disk()
        if self._file is None:
            self._blocks.append(block)
        else:
            self._write(block)
        self.n_major += len(block)

    def _place(self) -> str:
        return str(self.folder) if self.folder is not None else tempfile.gettempdir()

    def _to_disk(self) -> None:
        try:
            self._file = tempfile.TemporaryFile(dir=self.folder)  # noqa: SIM115 - closed by close()
        except OSError as error:
            raise storage_error(error, f"temporary data in {self._place()}", "nothing was published") from error
        for block in self._blocks:
            self._write(block)
        self._blocks = []

    def _write(self, block: npt.NDArray[Any]) -> None:
        assert self._file is not None
        try:
            self._file.write(block.data.cast("B") if block.size else b"")
        except OSError as error:
            raise storage_error(error, f"temporary data in {self._place()}", "nothing was published") from error

    def widen(self, dtype: np.dtype[Any], old_fill: int, new_fill: int) -> None:
        """Go on with a wider integer type; the code for missing changes with it."""
        old = self.finish()
        wide = Spool(self.n_minor, dtype, self.folder, self.memory_limit)
        step = max(1, (8 << 20) // max(1, self.n_minor * self.dtype.itemsize))
        for start in range(0, self.n_major, step):
            part = old[start : start + step]
            block = part.astype(dtype)
            block[part == old_fill] = new_fill
            wide.append(block)
        self.close()
        self.dtype, self._array = wide.dtype, None
        self._blocks, self._file = wide._blocks, wide._file

    def finish(self) -> npt.NDArray[Any]:
        """All rows as one array, shape (n_major, n_minor); mapped from the file if there is one."""
        if self._array is None or len(self._array) != self.n_major:
            shape = (self.n_major, self.n_minor)
            if self._file is not None:
                try:
                    self._file.flush()
                except OSError as error:
                    raise storage_error(error, f"temporary data in {self._place()}", "nothing was published") from error
                self._array = np.memmap(self._file, dtype=self.dtype, mode="r", shape=shape)
            else:
                array: npt.NDArray[Any] = np.empty(shape, dtype=self.dtype)
                start = 0
                # Each block is let go as soon as it is copied, so the peak is one copy and not two.
                self._blocks.reverse()
                while self._blocks:
                    block = self._blocks.pop()
                    array[start : start + len(block)] = block
                    start += len(block)
                self._blocks = [array]
                self._array = array
        return self._array

    def close(self) -> None:
        """Drop the rows."""
        self._blocks = []
        self._array = None
        if self._file is not None:
            self._file.close()
            self._file = None
