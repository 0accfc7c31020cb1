"""Gene counts: negative binomial, with library sizes, a dispersion trend, cells, batches and planted modules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sjd_dask import names
from sjd_dask.simulate.assay import Assay
from sjd_dask.simulate.keys import spread
from sjd_dask.simulate.people import CELL_TYPES, REFERENCE_FRACTIONS
from sjd_dask.simulate.programmes import NAMED_GENES, PROGRAMMES, planted, truth_columns

# log2 fold change at an activity of one, before a factor between 0.6 and 1.4.
STRENGTH = {"disease": 0.5, "interferon": 2.0, "b_cell": 1.0, "inflammation": 1.2}
COMMON_DISPERSION = 0.05
TREND_DISPERSION = 2.0  # dispersion = common + trend / mean, times a factor of each gene
LIBRARY_SD = 0.35  # of the natural logarithm of the library size
PERSON_SD = 0.2  # log2 units, common to the visits of a person


@dataclass(frozen=True)
class Tile:
    """Parameters of one tile, log2 units, float64 (width,) unless noted."""

    baseline: np.ndarray
    cells: np.ndarray  # (6, width) per unit of (fraction / reference fraction - 1)
    batch: np.ndarray  # (n_batches, width)
    age: np.ndarray  # per year
    dispersion: np.ndarray  # factor
    loading: np.ndarray
    programme: np.ndarray  # int8
    planted: np.ndarray


class RnaSeq(Assay):
    """Counts, int64. The first genes are the named ones (IFI44, IFI44L, IFIT1, IFIT3, MX1, ...)."""

    name = "rnaseq"
    quantity = names.COUNTS
    dtype = np.int64
    width = 1024

    def draw_tile(self, tile: int) -> Tile:
        width, rng = self.width, self.stream("tile").at(0, tile)
        baseline = np.clip(6.0 + 2.4 * rng.standard_normal(width), -1, 16)
        informative = rng.random(width) < 0.25
        cells = np.where(informative, 0.35, 0.02) * rng.standard_normal((len(CELL_TYPES), width))
        age = np.where(rng.random(width) < 0.1, 0.006 * rng.standard_normal(width), 0.0)
        dispersion = np.exp(0.35 * rng.standard_normal(width))
        factor = 0.6 + 0.8 * rng.random(width)
        sign = np.where(rng.random(width) < 0.5, -1.0, 1.0)
        programme = planted(spread(self.places(tile), self.seed, "rnaseq/planted"), self.planted_share)
        if tile == 0:
            codes = [PROGRAMMES.index(name) for _, name in NAMED_GENES]
            programme[: len(codes)] = codes
            # Module genes are well expressed and say little about the cells.
            baseline[: len(codes)] = np.maximum(baseline[: len(codes)], 6.0)
            cells[:, : len(codes)] *= 0.1
        # Modules rise with their programme; only the general disease programme goes both ways.
        sign = np.where(programme == PROGRAMMES.index("disease"), sign, 1.0)
        loading = np.array([*STRENGTH.values(), 0.0])[programme] * factor * sign
        batches = self.stream("batch")
        n_batches = self.people.options.n_batches
        batch = np.stack([0.2 * batches.at(b, tile).standard_normal(width) for b in range(n_batches)])
        return Tile(baseline, cells, batch, age, dispersion, loading, programme, np.flatnonzero(programme >= 0))

    def tile_ids(self, tile: int) -> np.ndarray:
        ids = np.array([f"GENE{i + 1:06d}" for i in self.places(tile)], dtype=object)
        if tile == 0:
            ids[: len(NAMED_GENES)] = [gene for gene, _ in NAMED_GENES]
        return ids

    def tile_features(self, tile: int) -> pd.DataFrame:
        ids = self.tile_ids(tile)
        return pd.DataFrame({names.FEATURE_ID: ids, names.GENE_SYMBOL: ids})

    def tile_truth(self, tile: int) -> pd.DataFrame:
        parameters = self.parameters(tile)
        return pd.DataFrame(
            {
                **truth_columns(parameters.programme, parameters.loading),
                "effect_age": parameters.age,
                "mean": np.exp2(parameters.baseline),
                "dispersion": dispersion_of(np.exp2(parameters.baseline), parameters.dispersion),
            }
        )

    def start(self) -> Any:
        return {name: self.stream(name) for name in ("library", "person", "gamma", "poisson")}

    def draw_row(self, row: int, tile: int, parameters: Tile, work: Any) -> np.ndarray:
        library = LIBRARY_SD * work["library"].at(row).standard_normal() / np.log(2)
        value = parameters.baseline + library + parameters.batch[self.people.batch[row]]
        self._add_person(value, row, tile, parameters, work)
        mean = np.exp2(np.minimum(value, 40.0))
        dispersion = dispersion_of(mean, parameters.dispersion)
        # A Poisson law with a gamma mean is negative binomial: variance mean + dispersion x mean^2.
        mean *= work["gamma"].at(row, tile).standard_gamma(1 / dispersion) * dispersion
        return work["poisson"].at(row, tile).poisson(mean)

    def expression(self, row_start: int, row_stop: int) -> np.ndarray:
        """log2 of what was planted in each gene of these samples, without library, batch and noise, (rows, genes)."""
        out, work = np.empty((row_stop - row_start, self.n_features)), self.start()
        for tile in range(-(-self.n_features // self.width)):
            parameters, origin = self.parameters(tile), tile * self.width
            for row in range(row_start, row_stop):
                value = parameters.baseline.copy()
                self._add_person(value, row, tile, parameters, work)
                out[row - row_start, origin : origin + self.width] = value[: self.n_features - origin]
        return out

    def batch_effects(self) -> np.ndarray:
        """Planted batch effects, log2 units, (batches, genes)."""
        tiles = [self.parameters(tile).batch for tile in range(-(-self.n_features // self.width))]
        return np.concatenate(tiles, axis=1)[:, : self.n_features]

    def _add_person(self, value: np.ndarray, row: int, tile: int, parameters: Tile, work: Any) -> None:
        people = self.people
        value += parameters.age * (people.age[row] - 54)
        relative = people.fractions[row] / REFERENCE_FRACTIONS - 1
        for c in range(len(CELL_TYPES)):
            value += parameters.cells[c] * relative[c]
        places = parameters.planted
        value[places] += parameters.loading[places] * people.activity[row][parameters.programme[places]]
        value += PERSON_SD * work["person"].at(int(people.person[row]), tile).standard_normal(self.width)


def dispersion_of(mean: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """Dispersion trend: falls with the mean towards a common value, as in blood RNA-seq."""
    return (COMMON_DISPERSION + TREND_DISPERSION / (mean + 2.0)) * factor
