"""Methylation betas: bimodal baselines, a mixture of cell types, batches, age, sex and planted programmes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sjd_dask import names
from sjd_dask.simulate.assay import Assay
from sjd_dask.simulate.keys import spread
from sjd_dask.simulate.people import CELL_TYPES
from sjd_dask.simulate.programmes import GENES, PROGRAMMES, planted, truth_columns

# Length of the chromosomes in megabases, GRCh38.
CHROMOSOMES = (*(str(i) for i in range(1, 23)), "X")
MEGABASES = np.array(
    [249, 242, 198, 190, 182, 171, 159, 145, 138, 134, 135, 133, 114, 107, 102, 90, 83, 80, 59, 64, 47, 51, 156],
    dtype=np.float64,
)
# Effect of an activity of one on the M-value, before a factor between 0.5 and 1.5; interferon opens its CpGs.
STRENGTH = {"disease": 0.30, "interferon": -0.90, "b_cell": 0.50, "inflammation": 0.60}
RESIDUAL_SD = 0.35  # of the M-value
RESIDUAL_DF = 6.0  # of the scaled inverse chi-square law of the residual variances
PERSON_SHARE = 0.5  # of the residual variance that is common to the visits of a person
LN2 = np.log(2.0)


@dataclass(frozen=True)
class Tile:
    """Parameters of one tile, natural-logit units, float32 (width,) unless noted."""

    cells: np.ndarray  # (6, width) betas of pure cells
    batch: np.ndarray  # (n_batches, width)
    age: np.ndarray  # per year
    female: np.ndarray
    sigma: np.ndarray
    loading: np.ndarray
    programme: np.ndarray  # int8
    planted: np.ndarray  # places of planted features in the tile
    chromosome: np.ndarray  # int8
    position: np.ndarray  # int64
    cell_informative: np.ndarray  # bool
    baseline: np.ndarray


class Methylation(Assay):
    """Betas between 0 and 1, float32.

    The beta of a sample is the mixture of its cells' betas; batch, age, sex, programmes and normal noise are then added
    on the logit scale, so planted effects are exact differences of M = log2(beta / (1 - beta)).
    """

    name = "methylation"
    quantity = names.BETA
    dtype = np.float32
    width = 4096

    def draw_tile(self, tile: int) -> Tile:
        width, rng = self.width, self.stream("tile").at(0, tile)
        place = rng.random(width)
        centre = np.select([place < 0.46, place < 0.86], [-2.9, 2.4], 0.0)
        spread_sd = np.select([place < 0.46, place < 0.86], [0.6, 0.6], 0.9)
        baseline = centre + spread_sd * rng.standard_normal(width)
        informative = rng.random(width) < 0.2
        cell_sd = np.where(informative, 0.9, 0.04)
        cells = baseline + cell_sd * rng.standard_normal((len(CELL_TYPES), width))
        chromosome = np.searchsorted(np.cumsum(MEGABASES / MEGABASES.sum()), rng.random(width), side="right")
        chromosome = np.minimum(chromosome, len(CHROMOSOMES) - 1)
        position = 1 + (rng.random(width) * MEGABASES[chromosome] * 1e6).astype(np.int64)
        age = np.where(rng.random(width) < 0.1, 0.006 * rng.standard_normal(width), 0.0)
        female = np.where(rng.random(width) < 0.6, 0.8, 0.0) * (chromosome == len(CHROMOSOMES) - 1)
        sigma = RESIDUAL_SD * LN2 * np.sqrt(RESIDUAL_DF / np.maximum(rng.chisquare(RESIDUAL_DF, width), 0.3))
        factor = 0.5 + rng.random(width)
        sign = np.where(rng.random(width) < 0.5, -1.0, 1.0)
        gene = rng.random(width)
        programme = self.programme(tile)
        strength = np.array([*STRENGTH.values(), 0.0])[programme]
        interferon = programme == PROGRAMMES.index("interferon")
        # The sign is drawn, but for interferon: its CpGs lose methylation.
        loading = strength * factor * np.where(interferon, 1.0, sign) * LN2
        if tile == 0:
            self._place_in_genes(programme, gene, chromosome, position)
        batches = self.stream("batch")
        n_batches = self.people.options.n_batches
        batch = np.stack([0.12 * batches.at(b, tile).standard_normal(width) for b in range(n_batches)])
        single = np.float32
        return Tile(
            cells=(1 / (1 + np.exp(-cells))).astype(single),
            batch=batch.astype(single),
            age=age.astype(single),
            female=female.astype(single),
            sigma=sigma.astype(single),
            loading=loading.astype(single),
            programme=programme,
            planted=np.flatnonzero(programme >= 0),
            chromosome=chromosome.astype(np.int8),
            position=position,
            cell_informative=informative,
            baseline=baseline.astype(single),
        )

    def programme(self, tile: int) -> np.ndarray:

        return planted(spread(self.places(tile), self.seed, f"{self.name}/planted"), self.planted_share)

    def _place_in_genes(
        self, programme: np.ndarray, gene: np.ndarray, chromosome: np.ndarray, position: np.ndarray
    ) -> None:
        """Put the planted features of the first tile in the genes of their programme, in place."""
        for code, name in enumerate(PROGRAMMES):
            loci = list(GENES[name].values())
            for i in np.flatnonzero(programme == code) if loci else ():
                where, start = loci[int(gene[i] * len(loci))]
                chromosome[i] = CHROMOSOMES.index(where)
                position[i] = start + int(position[i] % 3000)

    def tile_ids(self, tile: int) -> np.ndarray:
        return np.array([f"cg{i + 1:08d}" for i in self.places(tile).tolist()], dtype=object)

    def tile_features(self, tile: int) -> pd.DataFrame:
        parameters = self.parameters(tile)
        symbol = np.full(self.width, None, dtype=object)
        if tile == 0:
            genes = [(CHROMOSOMES.index(c), p, g) for table in GENES.values() for g, (c, p) in table.items()]
            for chromosome, start, name in genes:
                inside = (parameters.position >= start) & (parameters.position < start + 3000)
                symbol[inside & (parameters.chromosome == chromosome)] = name
        return pd.DataFrame(
            {
                names.FEATURE_ID: self.tile_ids(tile),
                names.CHROMOSOME: np.array(CHROMOSOMES, dtype=object)[parameters.chromosome],
                names.POSITION: parameters.position,
                names.GENE_SYMBOL: symbol,
            }
        )

    def tile_truth(self, tile: int) -> pd.DataFrame:
        parameters = self.parameters(tile)
        return pd.DataFrame(
            {
                **truth_columns(parameters.programme, parameters.loading / LN2),
                "effect_age": parameters.age / LN2,
                "effect_female": parameters.female / LN2,
                "residual_sd": parameters.sigma / LN2,
                "cell_informative": parameters.cell_informative,
            }
        )

    def start(self) -> Any:
        buffers = [np.empty(self.width, dtype=np.float32) for _ in range(4)]
        return {"noise": self.stream("noise"), "person": self.stream("person"), "last": None, "buffers": buffers}

    def draw_row(self, row: int, tile: int, parameters: Tile, work: Any) -> np.ndarray:
        people, single = self.people, np.float32
        value, term, noise, shared = work["buffers"]
        # A plain sum over the cell types: a matrix product may change its last bits with the shape of the block.
        np.multiply(parameters.cells[0], single(people.fractions[row, 0]), out=value)
        for c in range(1, len(CELL_TYPES)):
            np.multiply(parameters.cells[c], single(people.fractions[row, c]), out=term)
            value += term
        np.subtract(single(1), value, out=term)
        value /= term
        np.log(value, out=value)
        value += parameters.batch[people.batch[row]]
        np.multiply(parameters.age, single(people.age[row] - 54), out=term)
        value += term
        if people.is_female[row]:
            value += parameters.female
        places = parameters.planted
        if places.size:
            activity = people.activity[row].astype(single)
            value[places] += parameters.loading[places] * activity[parameters.programme[places]]
        work["noise"].at(row, tile).standard_normal(out=noise, dtype=single)
        if people.repeated[row]:
            person = (int(people.person[row]), tile)
            if work["last"] != person:
                work["person"].at(*person).standard_normal(out=shared, dtype=single)
                work["last"] = person
            noise *= single(np.sqrt(1 - PERSON_SHARE))
            np.multiply(shared, single(np.sqrt(PERSON_SHARE)), out=term)
            noise += term
        noise *= parameters.sigma
        value += noise
        np.negative(value, out=value)
        np.exp(value, out=value)
        value += single(1)
        return np.reciprocal(value, out=value)
