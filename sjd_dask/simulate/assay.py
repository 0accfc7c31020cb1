"""What every simulated assay offers: tiles of features, their parameters, their truth, and the values of a row."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from sjd_dask import names
from sjd_dask.simulate.keys import Stream
from sjd_dask.simulate.people import People


class Assay(ABC):
    """Features come in tiles of fixed width; a value depends on (seed, row, tile) alone.

    A tile is always drawn whole and then cut, so any block holds the same bits.
    """

    name: ClassVar[str]
    quantity: ClassVar[str]
    dtype: ClassVar[type]
    width: ClassVar[int]
    kept_tiles: ClassVar[int] = 32

    def __init__(self, people: People, n_features: int, seed: int, planted_share: float, missing_share: float) -> None:
        self.people = people
        self.n_features = n_features
        self.seed = seed
        self.planted_share = planted_share
        self.missing_share = missing_share
        self._tiles: OrderedDict[int, Any] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_tiles": OrderedDict()}

    @abstractmethod
    def draw_tile(self, tile: int) -> Any:
        """Parameters of one tile of features."""

    @abstractmethod
    def draw_row(self, row: int, tile: int, parameters: Any, work: Any) -> np.ndarray:
        """All values of one sample in one tile, (width,); may return a buffer that the next call overwrites."""

    @abstractmethod
    def start(self) -> Any:
        """Streams and buffers for one call of ``block``."""

    @abstractmethod
    def tile_ids(self, tile: int) -> np.ndarray:
        """Feature ids of a tile."""

    @abstractmethod
    def tile_features(self, tile: int) -> pd.DataFrame:
        """Public columns of the features of a tile."""

    @abstractmethod
    def tile_truth(self, tile: int) -> pd.DataFrame:
        """Planted columns of the features of a tile."""

    def stream(self, purpose: str) -> Stream:
        return Stream(self.seed, f"{self.name}/{purpose}")

    def places(self, tile: int) -> np.ndarray:
        """Feature numbers of a tile, (width,); the last tile runs past the last feature."""
        return np.arange(tile * self.width, (tile + 1) * self.width)

    def parameters(self, tile: int) -> Any:
        """Parameters of a tile, the last used ones kept."""
        found = self._tiles.pop(tile, None)
        if found is None:
            found = self.draw_tile(tile)
        self._tiles[tile] = found
        while len(self._tiles) > self.kept_tiles:
            self._tiles.popitem(last=False)
        return found

    def block(self, row_start: int, row_stop: int, feature_start: int, feature_stop: int) -> np.ndarray:
        out: np.ndarray = np.empty((row_stop - row_start, feature_stop - feature_start), dtype=self.dtype)
        if out.size == 0:
            return out
        work = self.start()
        missing = self.stream("missing") if self.missing_share > 0 else None
        for tile in range(feature_start // self.width, (feature_stop - 1) // self.width + 1):
            parameters = self.parameters(tile)
            origin = tile * self.width
            left, right = max(feature_start, origin), min(feature_stop, origin + self.width)
            cut, target = slice(left - origin, right - origin), slice(left - feature_start, right - feature_start)
            for row in range(row_start, row_stop):
                values = self.draw_row(row, tile, parameters, work)
                if missing is not None:
                    values = values.copy()
                    lost = missing.at(row, tile).random(self.width, dtype=np.float32) < self.missing_share
                    values[lost] = np.nan
                out[row - row_start, target] = values[cut]
        return out

    def _table(self, tile_table: Any) -> pd.DataFrame:
        n_tiles = -(-self.n_features // self.width)
        frame = pd.concat([tile_table(tile) for tile in range(n_tiles)], ignore_index=True)
        return frame.iloc[: self.n_features].reset_index(drop=True)

    def features(self) -> pd.DataFrame:
        return self._table(self.tile_features)

    def truth(self) -> pd.DataFrame:
        frame = self._table(self.tile_truth)
        frame.insert(0, names.FEATURE_ID, self.feature_ids())
        return frame

    def feature_ids(self) -> np.ndarray:
        n_tiles = -(-self.n_features // self.width)
        return np.concatenate([self.tile_ids(tile) for tile in range(n_tiles)])[: self.n_features]
