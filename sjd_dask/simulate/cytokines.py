"""Cytokine concentrations: log-normal, with a limit of detection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sjd_dask import names
from sjd_dask.simulate.assay import Assay
from sjd_dask.simulate.keys import spread
from sjd_dask.simulate.programmes import CYTOKINES, NONE, PROGRAMMES, planted, truth_columns

# log2 fold change at an activity of one, before a factor between 0.7 and 1.3.
STRENGTH = {"disease": 0.4, "interferon": 1.5, "b_cell": 1.0, "inflammation": 1.3}
LIMIT_OF_DETECTION = "limit_of_detection"


@dataclass(frozen=True)
class Tile:
    """Parameters of one tile, log2 pg/mL, float64 (width,) unless noted."""

    baseline: np.ndarray
    batch: np.ndarray  # (n_batches, width)
    age: np.ndarray  # per year
    sigma: np.ndarray
    limit: np.ndarray  # pg/mL
    loading: np.ndarray
    programme: np.ndarray  # int8


class Cytokines(Assay):
    """Concentrations in pg/mL, float64. A value below the limit of detection L is stored as L / sqrt(2)."""

    name = "cytokines"
    quantity = names.CONCENTRATION
    dtype = np.float64
    width = 64

    def draw_tile(self, tile: int) -> Tile:
        width, rng = self.width, self.stream("tile").at(0, tile)
        baseline = 4.0 + 2.0 * rng.standard_normal(width)
        age = 0.004 * rng.standard_normal(width)
        sigma = 0.7 + 0.5 * rng.random(width)
        # Expected share below the limit in healthy volunteers: none to a third.
        below = np.sqrt(rng.random(width)) * 2.4 - 2.9
        factor = 0.7 + 0.6 * rng.random(width)
        programme = planted(spread(self.places(tile), self.seed, "cytokines/planted"), self.planted_share)
        if tile == 0:
            programme[: len(CYTOKINES)] = [-1 if p == NONE else PROGRAMMES.index(p) for _, p in CYTOKINES]
        loading = np.array([*STRENGTH.values(), 0.0])[programme] * factor
        batches = self.stream("batch")
        n_batches = self.people.options.n_batches
        batch = np.stack([0.25 * batches.at(b, tile).standard_normal(width) for b in range(n_batches)])
        limit = np.round(np.exp2(baseline + sigma * below), 3) + 0.001
        return Tile(baseline, batch, age, sigma, limit, loading, programme)

    def tile_ids(self, tile: int) -> np.ndarray:
        ids = np.array([f"CYT{i + 1:04d}" for i in self.places(tile)], dtype=object)
        if tile == 0:
            ids[: len(CYTOKINES)] = [cytokine for cytokine, _ in CYTOKINES]
        return ids

    def tile_features(self, tile: int) -> pd.DataFrame:
        ids, limit = self.tile_ids(tile), self.parameters(tile).limit
        return pd.DataFrame({names.FEATURE_ID: ids, names.GENE_SYMBOL: ids, LIMIT_OF_DETECTION: limit})

    def tile_truth(self, tile: int) -> pd.DataFrame:
        parameters = self.parameters(tile)
        columns = truth_columns(parameters.programme, parameters.loading)
        return pd.DataFrame({**columns, "effect_age": parameters.age, LIMIT_OF_DETECTION: parameters.limit})

    def start(self) -> Any:
        return {name: self.stream(name) for name in ("noise", "person")}

    def draw_row(self, row: int, tile: int, parameters: Tile, work: Any) -> np.ndarray:
        people = self.people
        value = parameters.baseline + parameters.batch[people.batch[row]] + parameters.age * (people.age[row] - 54)
        value += parameters.loading * np.append(people.activity[row], 0.0)[parameters.programme]
        shared = work["person"].at(int(people.person[row]), tile).standard_normal(self.width)
        noise = work["noise"].at(row, tile).standard_normal(self.width)
        value += parameters.sigma * np.sqrt(0.5) * (shared + noise)
        concentration = np.exp2(value)
        return np.where(concentration < parameters.limit, parameters.limit / np.sqrt(2), concentration)
