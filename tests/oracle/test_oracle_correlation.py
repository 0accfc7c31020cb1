"""Within-block correlation and generalised least squares against limma."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sjd_dask.kernels import moderation
from sjd_dask.kernels.correlation import consensus_correlation, duplicate_correlation
from sjd_dask.kernels.gls import gls_fit
from sjd_dask.kernels.linear_contrasts import contrast_fit

REFERENCE = Path(__file__).parent / "reference"
CONTRASTS = np.array([[0.0, 1, 0], [0, 1, 2]]).T


def table(name):
    frame = pd.read_csv(REFERENCE / f"{name}.tsv.gz", sep="\t", dtype=str, keep_default_na=False)
    return frame.apply(lambda column: column.replace("NA", "NaN").astype(float))


def part(frame, prefix):
    return frame[[c for c in frame.columns if c.startswith(prefix)]].to_numpy(float).T.copy()


@pytest.mark.parametrize("data", ["full", "na"])
def test_correlation_and_fit(data):
    wanted = table(f"block_fit_{data}")
    setting = table("block_design").to_numpy()
    block, design = setting[:, 0].astype(int), setting[:, 1:]
    y = table("block_y" if data == "full" else "block_y_missing").to_numpy().T
    rho = duplicate_correlation(y, design, block)
    np.testing.assert_allclose(np.arctanh(rho), wanted["atanh"], rtol=1e-8, atol=1e-9)
    consensus = wanted["consensus"].iloc[0]
    assert consensus_correlation(rho) == pytest.approx(consensus, abs=1e-10)
    fit, whitened = gls_fit(y, design, block, consensus)
    np.testing.assert_allclose(fit.coefficients, part(wanted, "coef."), rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(fit.stdev_unscaled, part(wanted, "stdev_unscaled."), rtol=1e-10)
    np.testing.assert_allclose(np.sqrt(fit.sigma2), wanted["sigma"], rtol=1e-10)
    np.testing.assert_allclose(fit.df_residual, wanted["df_residual"])
    np.testing.assert_allclose(fit.mean, wanted["Amean"], rtol=1e-12)
    tested = contrast_fit(fit, whitened, CONTRASTS, "limma")
    np.testing.assert_allclose(tested.effects, part(wanted, "effect."), rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(tested.stdev_unscaled, part(wanted, "effect_stdev."), rtol=1e-10)


def test_public_data(reference_data):
    folder = reference_data / "oracles"
    samples = pd.read_csv(folder / "norm/rbe_samples.tsv.gz", sep="\t", dtype=str, index_col=0)
    values = pd.read_csv(folder / "data/ALL_expr.tsv.gz", sep="\t", index_col=0, nrows=1000)[samples.index]
    y = values.to_numpy(float).T
    design = np.column_stack([np.ones(len(samples)), samples["lineage"] == "T"])
    rho = duplicate_correlation(y, design, samples["block"])
    atanh = pd.read_csv(folder / "norm/dupcor_ALL1000.tsv.gz", sep="\t", index_col=0)["atanh"].to_numpy(float)
    np.testing.assert_allclose(np.arctanh(rho), atanh, atol=1e-10)
    consensus = consensus_correlation(rho)
    expected = json.loads((folder / "norm/dupcor_ALL1000.json").read_text())["consensus"]
    assert consensus == pytest.approx(expected, abs=1e-12)
    fit, _ = gls_fit(y, design, samples["block"], consensus)
    found = moderation.moderate(fit.coefficients, fit.stdev_unscaled, fit.sigma2, fit.df_residual)
    wanted = pd.read_csv(folder / "norm/dupcor_ALL1000_fit.tsv.gz", sep="\t", index_col=0)
    np.testing.assert_allclose(found.statistic, part(wanted, "t."), rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(found.p_value, part(wanted, "p."), rtol=1e-9)
    np.testing.assert_allclose(found.log_odds, part(wanted, "B."), rtol=1e-9, atol=1e-9)
