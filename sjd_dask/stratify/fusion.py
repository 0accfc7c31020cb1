"""Similarity network fusion of several assays, with samples missing in some, and its spectral groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.sparse import csr_array

from sjd_dask.errors import DataError
from sjd_dask.kernels.kmeans import kmeans_values
from sjd_dask.stratify.distances import sample_distances
from sjd_dask.stratify.draws import FEATURES, SAMPLES, STARTS, id_keys, position_keys, ranking
from sjd_dask.stratify.recipe import Recipe, check_values, n_drawn

Floats = NDArray[np.float64]
Places = NDArray[np.int64]
# k-means starts on the spectral embedding; it is small, and what varies should be the network.
SPECTRAL_STARTS = 10


@dataclass(frozen=True)
class Fusion:
    """How similarity networks are made and fused.

    Attributes
    ----------
    neighbours : int
        Nearest samples that make the local scale and the local network of a sample.
    width : float
        Standard deviation of the similarity kernel, in units of the local mean distance.
    iterations : int
        Exchanges between the networks of the assays.
    """

    neighbours: int = 20
    width: float = 0.5
    iterations: int = 20


@dataclass(frozen=True)
class AssayTable:
    """The values of one assay, and whose they are.

    Attributes
    ----------
    name : str
    values : ndarray (n_assay, p)
        Without missing values.
    rows : ndarray of int64 (n_assay,)
        Place of each sample among all samples, ascending.
    """

    name: str
    values: Floats
    rows: Places


def check_assays(assays: Sequence[AssayTable], sample_ids: Sequence[str], recipe: Recipe) -> None:
    """Refuse what can't be grouped, naming the assay.

    Raises
    ------
    DataError, SpecError
        See `check_values`.
    """
    for one in assays:
        try:
            check_values(one.values, [sample_ids[i] for i in one.rows], recipe)
        except DataError as error:
            raise DataError(f"{one.name}: {error}") from None


def similarity(distances: Floats, fusion: Fusion) -> Floats:
    """Similarities of samples by a kernel whose width follows the local density, (n, n).

    Parameters
    ----------
    distances : ndarray (n, n)
        Symmetric, 0 on the diagonal.
    fusion : Fusion

    Notes
    -----
    exp(-d^2 / (2 (w s)^2)) / (w s) with s the mean of d and of both samples' mean distances to their neighbours
    (Wang et al. 2014; `affinityMatrix` of SNFtool, without its constant factor).
    """
    n = len(distances)
    near = np.sort(distances, axis=1)[:, 1 : min(n - 1, fusion.neighbours) + 1].mean(axis=1)
    least = np.finfo(np.float64).eps
    scale = fusion.width * np.maximum((near[:, None] + near + distances) / 3.0 + least, least)
    made = np.exp(-0.5 * (distances / scale) ** 2) / scale
    return np.asarray((made + made.T) / 2.0)


def fuse(similarities: Sequence[Floats], rows: Sequence[Places], n: int, fusion: Fusion) -> Floats:
    """One network of all samples from the networks of the assays.

    Parameters
    ----------
    similarities : sequence of ndarray (n_assay, n_assay)
        Of the samples that each assay has.
    rows : sequence of ndarray of int64 (n_assay,)
        Their places among the n samples.
    n : int
    fusion : Fusion

    Returns
    -------
    ndarray (n, n)
        Symmetric, 0.5 on the diagonal.

    Notes
    -----
    Similarity network fusion (Wang et al. 2014): in every iteration the network of an assay becomes S M S', with S its
    sparse network of nearest neighbours and M the mean of the networks of the other assays. With samples missing in
    some assays all means run, pair by pair, over the assays that have both samples (as in NEMO, Rappoport and Shamir
    2019); where no other assay has a pair, M keeps the assay's own value. A pair without any assay in common has no
    edge of its own: it is joined by the samples that share an assay with both.
    """
    networks = [_normalised(one) for one in similarities]
    if len(networks) > 1:
        local = [_nearest(one, fusion.neighbours) for one in networks]
        whole = all(len(one) == n for one in rows)
        counts = None if whole else _counts(rows, n)
        for _ in range(fusion.iterations):
            total = _sum(networks, rows, n)
            following = []
            for network, sparse, place in zip(networks, local, rows, strict=True):
                square = np.ix_(place, place)
                others = total[square] - network
                if counts is None:
                    mean = others / (len(networks) - 1)
                else:
                    number = counts[square] - 1
                    mean = np.where(number > 0, others / np.maximum(number, 1), network)
                # S M S' with two products of a sparse matrix: M is symmetric.
                following.append(_normalised(sparse @ (sparse @ mean).T))
            networks = following
    total = _sum(networks, rows, n)
    return _normalised(total / np.maximum(_counts(rows, n), 1))


def spectral_embedding(network: Floats, size: int) -> Floats:
    """Leading eigenvectors of the normalised network, (n, size); the largest first."""
    degree = 1.0 / np.sqrt(np.maximum(network.sum(axis=1), np.finfo(np.float64).tiny))
    n = len(network)
    _, vectors = eigh(degree[:, None] * network * degree, subset_by_index=[n - size, n - 1])
    return np.ascontiguousarray(vectors[:, ::-1])


def spectral_groups(network: Floats, starts: Sequence[NDArray[np.int64]]) -> NDArray[np.int8]:
    """Groups of a network for several k.

    Parameters
    ----------
    network : ndarray (n, n)
    starts : sequence of ndarray of int64 (n_starts, k)
        First centres of the k-means for each k, places of samples.

    Returns
    -------
    ndarray of int8 (n_k, n)

    Notes
    -----
    Ng, Jordan and Weiss (2002): k leading eigenvectors of D^-1/2 W D^-1/2, rows of length 1, k-means.
    """
    vectors = spectral_embedding(network, max(one.shape[1] for one in starts))
    made = []
    for first in starts:
        part = vectors[:, : first.shape[1]]
        lengths = np.sqrt(np.einsum("ij,ij->i", part, part))
        labels, _ = kmeans_values(np.ascontiguousarray(part / np.where(lengths > 0, lengths, 1.0)[:, None]), first)
        made.append(labels)
    return np.stack(made)


def fused_labels(
    assays: Sequence[AssayTable], sample_ids: Sequence[str], recipe: Recipe, fusion: Fusion, start: int, stop: int
) -> NDArray[np.int8]:
    """Draw, fuse and group the rounds start..stop of the resamples.

    Parameters
    ----------
    assays : sequence of AssayTable
        One of them: its network alone.
    sample_ids : sequence of str (n,)
        Of all samples, sorted: draws are keyed by them.
    recipe : Recipe
        `distance`, `k`, `sample_fraction`, `feature_fraction` and `seed` are used.
    fusion : Fusion
    start, stop : int
        Rounds, from 0.

    Returns
    -------
    ndarray of int8 (stop - start, 1, n_k, n)
        Groups from 0; -1: not drawn, or in none of the assays.
    """
    keys, n = id_keys(sample_ids), len(sample_ids)
    present = np.zeros(n, dtype=bool)
    for one in assays:
        present[one.rows] = True
    there = np.flatnonzero(present)
    size = n_drawn(len(there), recipe.sample_fraction)
    networks = _Networks(assays, recipe)
    out = np.full((stop - start, 1, len(recipe.k), n), -1, dtype=np.int8)
    for at, round_ in enumerate(range(start, stop)):
        drawn = np.sort(there[ranking(keys[there], recipe.seed, round_, SAMPLES)[:size]])
        network = networks.fused(drawn, fusion, round_)
        starts = spectral_starts(keys[drawn], recipe, round_)
        out[at, 0][:, drawn] = spectral_groups(network, starts)
    return out


def fused_network(assays: Sequence[AssayTable], n: int, recipe: Recipe, fusion: Fusion) -> Floats:
    """The network of all samples on all features; samples in no assay have no edges."""
    distances = [sample_distances(one.values, recipe.distance) for one in assays]
    return fuse([similarity(one, fusion) for one in distances], [one.rows for one in assays], n, fusion)


def spectral_starts(keys: NDArray[np.uint64], recipe: Recipe, round_: int) -> list[NDArray[np.int64]]:
    """First centres for each k, keyed by samples."""
    return [
        np.stack([ranking(keys, recipe.seed, round_, STARTS, k, s)[:k] for s in range(SPECTRAL_STARTS)])
        for k in recipe.k
    ]


class _Networks:
    """Distances within each assay, made once where every round takes all features."""

    def __init__(self, assays: Sequence[AssayTable], recipe: Recipe) -> None:
        self.assays, self.recipe = assays, recipe
        whole = recipe.feature_fraction == 1.0
        self._distances = [sample_distances(one.values, recipe.distance) for one in assays] if whole else None

    def fused(self, drawn: Places, fusion: Fusion, round_: int) -> Floats:
        similarities, rows = [], []
        for a, one in enumerate(self.assays):
            inside = np.flatnonzero(np.isin(one.rows, drawn, assume_unique=True))
            # Of fewer there are no neighbours to speak of.
            if len(inside) < 3:
                continue
            if self._distances is not None:
                distances = self._distances[a][np.ix_(inside, inside)]
            else:
                p = one.values.shape[1]
                width = n_drawn(p, self.recipe.feature_fraction)
                columns = np.sort(ranking(position_keys(p), self.recipe.seed, round_, FEATURES)[:width])
                distances = sample_distances(one.values[np.ix_(inside, columns)], self.recipe.distance)
            similarities.append(similarity(distances, fusion))
            rows.append(np.searchsorted(drawn, one.rows[inside]))
        return fuse(similarities, rows, len(drawn), fusion)


def _normalised(network: Floats) -> Floats:
    """Half of a sample's weight on itself, half on the others; symmetric."""
    made = network.copy()
    np.fill_diagonal(made, 0.0)
    sums = made.sum(axis=1)
    made /= (2.0 * np.where(sums > 0, sums, 1.0))[:, None]
    np.fill_diagonal(made, 0.5)
    return np.asarray((made + made.T) / 2.0)


def _nearest(network: Floats, neighbours: int) -> csr_array:
    """Each sample's largest entries, to sum 1; of equals the sample that comes first."""
    n = len(network)
    size = min(neighbours, n)
    places = np.sort(np.argsort(-network, axis=1, kind="stable")[:, :size], axis=1)
    kept = np.take_along_axis(network, places, axis=1)
    kept /= kept.sum(axis=1, keepdims=True)
    return csr_array((kept.ravel(), places.ravel(), np.arange(0, n * size + 1, size)), shape=(n, n))


def _sum(networks: Sequence[Floats], rows: Sequence[Places], n: int) -> Floats:
    total = np.zeros((n, n))
    for network, place in zip(networks, rows, strict=True):
        if len(place) == n:
            total += network
        else:
            total[np.ix_(place, place)] += network
    return total


def _counts(rows: Sequence[Places], n: int) -> NDArray[np.int16]:
    """Assays that have both samples of a pair, (n, n)."""
    total = np.zeros((n, n), dtype=np.int16)
    for place in rows:
        total[np.ix_(place, place)] += 1
    return total
