"""Module scores of whole blood of children with lupus (GSE65391), against plain pandas."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sjd_dask.clinical import fit_modules, score_modules

TYPE_I = ["IFI44", "IFI44L", "IFIT1", "IFIT3", "MX1"]


@pytest.fixture(scope="module")
def blood(reference_data: Path) -> tuple[pd.DataFrame, pd.Series, pd.DataFrame]:
    """Probes of interferon genes, gene symbols, and what is known of the samples."""
    folder = reference_data / "data" / "sle_wb_GSE65391_training"
    symbols = pd.read_csv(folder / "features.csv.gz", index_col="feature")["gene_symbol"]
    file = np.load(folder / "expression_log2x1000_int16.npz", allow_pickle=False)
    wanted = symbols.index[symbols.isin([*TYPE_I, "GBP1", "CXCL9"])]
    at = pd.Index(file["features"]).get_indexer(wanted)
    values = pd.DataFrame(file["values"][at].T / 1000.0, index=file["samples"], columns=wanted)
    return values, symbols, pd.read_csv(folder / "phenotype.csv", index_col=0).loc[file["samples"]]


def test_children_with_lupus_have_the_interferon_signature(blood: tuple) -> None:
    values, symbols, samples = blood
    healthy = samples["disease_state"] == "Healthy"
    model = fit_modules(values, healthy, symbols=symbols, name="GSE65391")
    type_one = model["modules"][0]
    assert (type_one["n_matched"], type_one["missing"]) == (5, [])
    found = score_modules(values, model)
    z = (values - values[healthy].mean()) / values[healthy].std()
    usable = [name for name in values if name in type_one["features"]]
    plain = z[usable].T.groupby(symbols.loc[usable].to_numpy()).mean().mean()
    np.testing.assert_allclose(found["interferon type I"], plain, rtol=1e-10)
    high = found["interferon type I_high"]
    assert high[~healthy].mean() > 0.7 and high[healthy].mean() < 0.1
    cut = plain[healthy].mean() + 2 * plain[healthy].std()
    np.testing.assert_array_equal(high, plain > cut)
