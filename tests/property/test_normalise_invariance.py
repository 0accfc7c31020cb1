"""Every registered method, frozen: one sample alone, in a batch of 24, in everyone, in any order has the same values.

And the frozen object itself: through a Dataset and through arrays and back it is the same; a change is seen.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from normalise_scene import (
    CHAINS,
    FEATURES,
    N_REFERENCE,
    SAMPLES,
    SLOW,
    STRANGER,
    N,
    block_difference,
    difference,
    fitted,
    scene,
    scene_annotation,
    scene_sheet,
    scene_values,
)

from sjd_dask import names
from sjd_dask import normalise as sjd
from sjd_dask.errors import DataError, SpecError
from sjd_dask.normalise.chain import Chain, fit_chain
from sjd_dask.normalise.method import METHODS
from sjd_dask.normalise.methods import make_method
from sjd_dask.store.codec import use_fast_pipeline

TOLERANCE = 1e-12
# Reference samples, others, and the one of an unknown batch.
SOME = np.array([5, 39, 40, 41, 46, STRANGER, 50])


def methods_of(steps: list[Any]) -> set[str]:
    return {step if isinstance(step, str) else step["method"] for step in steps}


def test_every_method_is_here() -> None:
    """Who adds a method adds a chain with it to `normalise_scene.CHAINS`."""
    tried = set().union(*(methods_of(steps) for _, steps in CHAINS.values()))
    assert tried == set(METHODS)


def check_company(name: str, seed: int, order: int, size: int, everyone: np.ndarray, alone: int) -> None:
    """Alone, in pieces of 24 and of `size`, in another order, backwards: against all of `everyone` at once."""
    chain, source = fitted(name, seed)
    whole = chain.apply(source.block(everyone))
    before = source.values.copy()
    assert np.isfinite(whole.values[whole.pending == ""]).mean() > 0.9
    knows_batches = any(hasattr(method, "batch") or hasattr(method, "plate") for method, _ in chain.steps)
    assert everyone[whole.pending != ""].tolist() == ([STRANGER] if knows_batches else [])
    n = len(everyone)
    shuffled = np.random.default_rng(order).permutation(n)
    pieces = [np.array([i]) for i in shuffled[:alone]]
    pieces += [np.arange(at, min(n, at + 24)) for at in range(0, n, 24)]
    pieces += [shuffled[:size], shuffled[size:]]
    if name not in SLOW:
        pieces += [np.arange(n)[::-1], shuffled, shuffled[:24], np.flatnonzero(everyone == STRANGER)]
    worst = max(block_difference(chain.apply(source.block(everyone[rows])), whole, rows) for rows in pieces)
    assert worst <= TOLERANCE
    np.testing.assert_array_equal(source.values, before)  # nothing in place


@pytest.mark.parametrize("name", sorted(CHAINS.keys() - SLOW))
@settings(max_examples=2, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 999), order=st.integers(0, 999), size=st.integers(2, N - 1))
def test_company(name: str, seed: int, order: int, size: int) -> None:
    check_company(name, seed, order, size, np.arange(N), 8)


@pytest.mark.parametrize("name", sorted(SLOW))
def test_company_of_slow_methods(name: str) -> None:
    check_company(name, 3, 4, 9, np.arange(22, 48), 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", CHAINS)
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 10**6), order=st.integers(0, 999), size=st.integers(2, N - 1))
def test_company_at_length(name: str, seed: int, order: int, size: int) -> None:
    check_company(name, seed, order, size, np.arange(N), 16)


@pytest.mark.parametrize("name", CHAINS)
def test_fit_and_cut(name: str) -> None:
    """The values don't depend on how the fit went through the reference set."""
    scale, steps = CHAINS[name]
    methods = [make_method(step) for step in steps]
    wanted, everyone = fitted(name)
    rows = SOME if name in SLOW else np.arange(N)
    whole = wanted.apply(everyone.block(rows))
    chain = fit_chain(methods, scene(scale, 0, N_REFERENCE, block_rows=7, stripe=64))
    assert block_difference(chain.apply(everyone.block(rows)), whole, np.arange(len(rows))) <= TOLERANCE


# -- the frozen object -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CHAINS)
def test_round_trips(name: str) -> None:
    chain, everyone = fitted(name)
    whole = chain.apply(everyone.block(SOME))
    arrays, attributes = chain.to_arrays()
    turned = Chain.from_arrays(dict(reversed(arrays.items())), dict(reversed(attributes.items())))
    for other in (turned, Chain.from_dataset(chain.to_dataset())):
        assert other.hash() == chain.hash()
        assert (other.text, other.scale, other.source_scale) == (chain.text, chain.scale, chain.source_scale)
        assert other.reference_samples == chain.reference_samples
        assert [method for method, _ in other.steps] == [method for method, _ in chain.steps]
        again = other.apply(everyone.block(SOME))
        np.testing.assert_array_equal(again.values, whole.values)
        assert again.pending.tolist() == whole.pending.tolist()


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("name", ["log_cpm_combat", "mask_probes", "filter_by_expr", "plate_centre_controls"])
def test_through_a_store(name: str, fast: bool, tmp_path: Path) -> None:
    """With either codec pipeline: this process may have used the fast one before."""
    if fast:
        use_fast_pipeline()
    chain, _ = fitted(name)
    chain.to_dataset().to_zarr(tmp_path / "parameters.zarr", consolidated=False)
    with xr.open_zarr(tmp_path / "parameters.zarr", consolidated=False) as stored:
        assert Chain.from_dataset(stored.load()).hash() == chain.hash()


def changed(value: np.ndarray) -> np.ndarray:
    """One element of an array, in the smallest way."""
    out = value.copy()
    flat = out.reshape(-1)
    if value.dtype.kind == "b":
        flat[-1] = ~flat[-1]
    elif value.dtype.kind in "iu":
        flat[-1] += 1
    elif value.dtype.kind == "f":
        flat[-1] = np.nextafter(np.nan_to_num(flat[-1]), np.inf)
    else:
        flat = flat.astype(object)
        flat[-1] = f"{flat[-1]}x"
        out = flat.astype(str).reshape(value.shape)
    return out


@pytest.mark.parametrize("name", CHAINS)
def test_changes_are_seen(name: str) -> None:
    chain, _ = fitted(name)
    dataset = chain.to_dataset()
    for variable in dataset.variables:
        value = dataset[variable].to_numpy()
        if value.size:
            other = dataset.assign({variable: (dataset[variable].dims, changed(value))})
            with pytest.raises(DataError, match="changed after they were fitted"):
                Chain.from_dataset(other)
    for old, new in ((f'"{chain.source_scale}"', '"dosage"'), ('"version": 1', '"version": 999')):
        assert old in dataset.attrs["chain"]
        other = dataset.assign_attrs(chain=dataset.attrs["chain"].replace(old, new))
        with pytest.raises(DataError):
            Chain.from_dataset(other)


def test_changed_options_are_seen() -> None:
    for name, old, new in (
        ("clr_counts", '"zero_replacement": 0.001', '"zero_replacement": 0.0015'),
        ("filter_by_expr", '"min_count": 10', '"min_count": 9'),
        ("combat_reference", '"reference_batch": "b1"', '"reference_batch": "b2"'),
    ):
        dataset = fitted(name)[0].to_dataset()
        assert old in dataset.attrs["chain"]
        with pytest.raises(DataError, match="changed after they were fitted"):
            Chain.from_dataset(dataset.assign_attrs(chain=dataset.attrs["chain"].replace(old, new)))


def test_hashes_differ_by_what_was_fitted() -> None:
    found = [fitted(name)[0].hash() for name in CHAINS] + [fitted("tmm", 1)[0].hash()]
    assert len(set(found)) == len(found)


_HASHES = "from normalise_scene import *\nfor name in CHAINS:\n    print(name, fitted(name)[0].hash())"


def test_hash_in_another_process() -> None:
    """Fitted again in a process of its own, with another seed of Python's hashes: the same name for each chain."""
    path = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    environment = os.environ | {"PYTHONHASHSEED": "12345", "PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", _HASHES], capture_output=True, text=True, check=True, env=environment)
    found = dict(line.split() for line in done.stdout.splitlines())
    assert found == {name: fitted(name)[0].hash() for name in CHAINS}


# -- xarray ----------------------------------------------------------------------------------------------------------


def array(scale: str, values: Any, rows: Any = slice(None)) -> xr.DataArray:
    coords = {
        names.SAMPLE_ID: (names.SAMPLES, SAMPLES[rows].astype(object)),
        names.FEATURE_ID: (names.FEATURES, FEATURES.astype(object)),
    }
    return xr.DataArray(values, dims=(names.SAMPLES, names.FEATURES), coords=coords, name=scale)


@pytest.mark.parametrize("name", CHAINS)
def test_lazy(name: str) -> None:
    """On Dask nothing is computed while the graph is built; its chunks and the features' order change nothing."""
    scale, steps = CHAINS[name]
    values, sheet = scene_values(scale), scene_sheet()
    data = array(scale, values)
    reference = [str(one) for one in SAMPLES[:N_REFERENCE]]
    parameters = sjd.fit(data, steps, samples=sheet, features=scene_annotation(), reference_samples=reference)
    chain, everyone = fitted(name)
    assert parameters.attrs["hash"] == chain.hash()
    eager = sjd.apply(data[SOME], parameters, samples=sheet)
    done = chain.apply(everyone.block(SOME))
    np.testing.assert_array_equal(eager, np.where((done.pending == "")[:, None], done.values, np.nan))
    read = []

    def chunk(block: np.ndarray) -> np.ndarray:
        read.append(len(block))
        return block

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("computed while the graph was built")

    chunks = ((1, 4, 2), values.shape[1])
    pieces = da.from_array(values[SOME], chunks=chunks).map_blocks(chunk, meta=np.empty((0, 0)))
    with dask.config.set(scheduler=refuse):
        lazy = sjd.apply(array(scale, pieces, SOME), parameters, samples=sheet.iloc[::-1])
        backwards = sjd.apply(array(scale, pieces, SOME)[:, ::-1], parameters, samples=sheet)
        assert dask.is_dask_collection(lazy.data) and lazy.data.chunks[0] == chunks[0]
        assert lazy.shape == eager.shape and lazy.dtype == np.float64 and lazy.name == chain.scale
    assert read == []
    found = lazy.compute(scheduler="synchronous")
    assert sorted(read) == [1, 2, 4]
    xr.testing.assert_identical(found, eager)
    assert difference(backwards.compute(scheduler="synchronous").to_numpy(), eager.to_numpy()) <= TOLERANCE


def test_cut_features_are_refused() -> None:
    parameters = fitted("log")[0].to_dataset()
    pieces = da.from_array(scene_values("concentration"), chunks=(24, 100))
    with pytest.raises(SpecError, match=r"6 chunks.*rechunk"):
        sjd.apply(array("concentration", pieces), parameters)
