"""What a methylation array's own values say of it: whether it failed, and whose it is.

A working array reads most probes as unmethylated or methylated, so its betas have two modes; one whose DNA or staining
failed has betas around the middle, or one mode only. The array's SNP probes (names starting with "rs") read 0, a half
or 1 by genotype, and tell people apart (Pidsley and others 2013, BMC Genomics 14:293).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sjd_dask.errors import DataError, SpecError
from sjd_dask.kernels.bmiq import beta_histogram, density_mode

Floats = NDArray[np.float64]

FAILED_ARRAY = "failed_array"
LOW, HIGH = 0.2, 0.8

# A genotype is called within this distance of its beta.
_GENOTYPES = np.array([0.0, 0.5, 1.0])
_REACH = 0.2
# Two unrelated people agree in about two of five genotypes at common SNPs; one person's arrays in nearly all.
SAME_PERSON = 0.9
_LEAST_PROBES = 15


@dataclass(frozen=True)
class Bimodality:
    """Shape of one sample's betas.

    Attributes
    ----------
    low_share, high_share : float
        Shares of the values there that are below 0.2, and above 0.8; NaN without values.
    low_mode, high_mode : float
        Where the density below 0.4, and above 0.6, is highest; NaN where nothing lies there.
    missing_share : float
        Share of all values that are missing.
    """

    low_share: float
    high_share: float
    low_mode: float
    high_mode: float
    missing_share: float


def bimodality(values: Floats) -> Bimodality:
    """Shares at both ends and the modes of one sample's betas, (p,); NaN is missing."""
    known = values[~np.isnan(values)]
    missing = 1.0 - known.size / values.size if values.size else math.nan
    if known.size == 0:
        return Bimodality(math.nan, math.nan, math.nan, math.nan, missing)
    counts = beta_histogram(known)
    return Bimodality(
        float(np.mean(known < LOW)),
        float(np.mean(known > HIGH)),
        density_mode(counts, 0.0, 0.4),
        density_mode(counts, 0.6, 1.0),
        missing,
    )


def failed_array(
    values: Floats, *, least_low: float = 0.05, least_high: float = 0.05, most_missing: float = 0.2
) -> str:
    """Why a sample's betas can't be those of a working array; empty when they can.

    Parameters
    ----------
    values : ndarray of float64, shape (p,)
        Betas of a whole array; NaN is missing. A short panel of probes may have one mode by choice.
    least_low, least_high : float
        A working array has at least these shares of its values below 0.2, and above 0.8.
    most_missing : float
        A working array lacks at most this share of its values.

    Returns
    -------
    str
        "", "missing values", "no unmethylated mode" or "no methylated mode".
    """
    there = int(np.count_nonzero(~np.isnan(values)))
    if values.size == 0 or 1.0 - there / values.size > most_missing:
        return "missing values"
    if np.count_nonzero(values < LOW) < least_low * there:
        return "no unmethylated mode"
    if np.count_nonzero(values > HIGH) < least_high * there:
        return "no methylated mode"
    return ""


def genotype_calls(snp_betas: Floats) -> NDArray[np.int8]:
    """Genotypes 0, 1, 2 of SNP probes, same shape; -1 where the beta is missing or not within 0.2 of one."""
    distance = np.abs(snp_betas[..., None] - _GENOTYPES)
    nearest = np.argmin(np.where(np.isnan(distance), np.inf, distance), axis=-1)
    size = np.take_along_axis(distance, nearest[..., None], axis=-1)[..., 0]
    calls: NDArray[np.int8] = np.where(size <= _REACH, nearest, -1).astype(np.int8)
    return calls


def genotype_concordances(snp_betas: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """Share of equal genotypes for every pair of samples.

    Parameters
    ----------
    snp_betas : ndarray of float64, shape (n, s)
        Betas of the probes whose names start with "rs"; NaN is missing.

    Returns
    -------
    share : ndarray of float64, shape (n, n)
        NaN where fewer than 15 probes are called in both.
    called : ndarray of int64, shape (n, n)
        Probes called in both.
    """
    calls = genotype_calls(snp_betas)
    known = (calls >= 0).astype(np.float64)
    called = known @ known.T
    equal = np.zeros_like(called)
    for genotype in range(3):
        own = (calls == genotype).astype(np.float64)
        equal += own @ own.T
    enough = called >= _LEAST_PROBES
    share = np.where(enough, equal / np.where(enough, called, 1.0), np.nan)
    return share, called.astype(np.int64)


def genotype_concordance(snp_betas_a: Floats, snp_betas_b: Floats) -> tuple[float, int]:
    """Share of equal genotypes of two samples over the probes called in both, and their number.

    Parameters
    ----------
    snp_betas_a, snp_betas_b : ndarray of float64, shape (s,)
        Betas of the same SNP probes.

    Returns
    -------
    share : float
        At least 0.9 (`SAME_PERSON`) for two arrays of one person, about 0.4 for two people, NaN when fewer than 15
        probes are called in both.
    called : int

    Raises
    ------
    DataError
        The two have different numbers of probes.
    """
    if snp_betas_a.shape != snp_betas_b.shape:
        raise DataError(f"{len(snp_betas_a)} and {len(snp_betas_b)} SNP probes can't be compared: take the same probes")
    share, called = genotype_concordances(np.stack([snp_betas_a, snp_betas_b]))
    return float(share[0, 1]), int(called[0, 1])


def mask_cells(
    values: Floats,
    detection_p: Floats | None = None,
    threshold: float = 0.01,
    bead_count: Floats | None = None,
    minimum: float = 3.0,
) -> tuple[Floats, NDArray[np.int64]]:
    """Set values missing that were not detected, or rest on too few beads.

    Parameters
    ----------
    values : ndarray of float64, shape (n, p)
    detection_p : ndarray, shape (n, p), optional
        Detection p-values; a value stays when its p is at most `threshold`. A missing p masks.
    bead_count : ndarray, shape (n, p), optional
        Beads a value rests on; it stays with at least `minimum`. A missing count masks.

    Returns
    -------
    values : ndarray of float64, shape (n, p)
        A copy.
    masked : ndarray of int64, shape (n,)
        Values of each sample that became missing here.

    Raises
    ------
    SpecError
        The threshold is not a probability above 0.
    DataError
        A companion table has another shape.
    """
    if not 0.0 < threshold <= 1.0:
        raise SpecError(f"the threshold of detection p-values must lie above 0 and at most at 1, not {threshold}")
    keep = np.ones(values.shape, dtype=np.bool_)
    for what, table in (("detection p-values", detection_p), ("bead counts", bead_count)):
        if table is not None and table.shape != values.shape:
            raise DataError(f"{what} of shape {table.shape} don't belong to values of shape {values.shape}")
    if detection_p is not None:
        keep &= detection_p <= threshold
    if bead_count is not None:
        keep &= bead_count >= minimum
    masked = np.count_nonzero(~keep & ~np.isnan(values), axis=1)
    return np.where(keep, values, np.nan), masked.astype(np.int64)
