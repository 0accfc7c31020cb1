"""What is planted is there, and can be found again."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sjd_dask.simulate import CLASSES, Simulation


@pytest.fixture(scope="module")
def sim() -> Simulation:
    return Simulation(300, 6000, 11, n_genes=1500, repeat_share=0.0)


def fit(values: np.ndarray, columns: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Effects and t-statistics of the last column."""
    x = np.column_stack([np.ones(len(values)), *columns]).astype(float)
    inverse = np.linalg.inv(x.T @ x)
    beta = inverse @ x.T @ values
    residual = values - x @ beta
    s2 = (residual**2).sum(axis=0) / (len(x) - x.shape[1])
    return beta[-1], beta[-1] / np.sqrt(s2 * inverse[-1, -1])


def adjusted(sheet: pd.DataFrame) -> list[np.ndarray]:
    cells = [sheet[c].to_numpy() for c in ("CD4T", "CD8T", "Bcell", "NK", "Mono")]
    batches = [sheet["batch"] == b for b in sorted(sheet["batch"].unique())[1:]]
    return [sheet["age"].to_numpy(), sheet["sex"] == "M", *batches, *cells]


def test_methylation_effects_are_found_at_their_size(sim: Simulation) -> None:
    sheet, truth = sim.samples(), sim.truth("methylation")
    beta = sim.block("methylation", 0, 300, 0, 6000).astype(float)
    assert beta.min() > 0 and beta.max() < 1
    means = beta.mean(axis=0)
    assert (means < 0.2).mean() > 0.3 and (means > 0.8).mean() > 0.3  # two modes
    m_values = np.log2(beta / (1 - beta))
    patient = (sheet["disease"] == "patient").to_numpy()
    effect, t = fit(m_values, [*adjusted(sheet), patient])
    is_planted = (truth["programme"] != "none").to_numpy()
    assert np.polyfit(truth["effect_patient"][is_planted], effect[is_planted], 1)[0] == pytest.approx(1, abs=0.15)
    # Without the cells the statistics are inflated, with them they are not (normal median of |t| is 0.674).
    _, crude = fit(m_values, [sheet["age"].to_numpy(), patient])
    inflation = [np.median(np.abs(x[~is_planted])) ** 2 / 0.4549 for x in (crude, t)]
    assert inflation[0] > 1.1
    assert inflation[1] == pytest.approx(1, abs=0.1)
    assert is_planted.mean() == pytest.approx(0.01, abs=0.001)


def test_each_class_has_its_own_effects(sim: Simulation) -> None:
    sheet, truth = sim.samples(), sim.truth("rnaseq")
    counts = sim.block("rnaseq", 0, 300, 0, 1500)
    assert counts.dtype == np.int64 and counts.min() == 0
    log_counts = np.log2(counts + 0.5) - np.log2(counts.sum(axis=1, keepdims=True))
    genes = list(sim.feature_ids("rnaseq"))
    named = [genes.index(g) for g in ("IFI44", "IFI44L", "IFIT1", "IFIT3", "MX1")]
    healthy = (sheet["true_class"] == "healthy").to_numpy()
    for name in CLASSES:
        members = (sheet["true_class"] == name).to_numpy()
        found = log_counts[members][:, named].mean(axis=0) - log_counts[healthy][:, named].mean(axis=0)
        np.testing.assert_allclose(found, truth[f"effect_{name}"].to_numpy()[named], atol=0.6)


def test_counts_are_overdispersed_most_at_low_means() -> None:
    sim = Simulation(400, 1, 2, n_genes=1000, planted_share=0.0, repeat_share=0.0, n_batches=1)
    counts = sim.block("rnaseq", 0, 400, 20, 1000).astype(float)
    counts = counts[:, counts.mean(axis=0) > 3]
    mean, variance = counts.mean(axis=0), counts.var(axis=0)
    dispersion = (variance - mean) / mean**2
    assert np.median(dispersion[mean < 20]) > 1.2 * np.median(dispersion[mean > 200]) > 0.05


def test_visits_of_a_person_resemble_each_other() -> None:
    sim = Simulation(120, 3000, 4, repeat_share=1.0)
    sheet = sim.samples()
    assert set(sheet["visit"]) == {1, 2, 3}
    assert (sheet.groupby("person_id")["sex"].nunique() == 1).all()
    assert sheet.groupby("person_id")["date"].is_monotonic_increasing.all()
    beta = sim.block("methylation", 0, 120, 0, 3000).astype(float)
    m_values = np.log2(beta / (1 - beta))
    residual = (m_values - m_values.mean(axis=0)) / m_values.std(axis=0)
    same = [i for i in range(119) if sheet["person_id"].iloc[i] == sheet["person_id"].iloc[i + 1]]
    other = [i for i in range(119) if i not in same]
    product = np.array([np.mean(residual[i] * residual[i + 1]) for i in range(119)])
    assert product[same].mean() > 0.3 > 0.15 > abs(product[other].mean())


def test_remission_moves_patients_to_the_class_near_healthy() -> None:
    sheet = Simulation(300, 1, 4, repeat_share=1.0, remission=1.0).samples()
    later = sheet[(sheet["visit"] > 1) & (sheet["disease"] == "patient")]
    assert set(later["true_class"]) == {"C2"}


def test_concentrations_stop_at_the_limit_of_detection() -> None:
    sim = Simulation(200, 1, 6, n_cytokines=70)
    limit = sim.features("cytokines")["limit_of_detection"].to_numpy()
    values = sim.block("cytokines", 0, 200, 0, 70)
    below = values < limit
    assert 0.02 < below.mean() < 0.4
    np.testing.assert_allclose(values[below], np.broadcast_to(limit / np.sqrt(2), values.shape)[below])


def test_missing_values_have_their_share_and_change_nothing_else() -> None:
    whole, holed = Simulation(20, 5000, 1), Simulation(20, 5000, 1, missing_share=0.05)
    a, b = (s.block("methylation", 0, 20, 0, 5000) for s in (whole, holed))
    lost = np.isnan(b)
    assert lost.mean() == pytest.approx(0.05, abs=0.005)
    np.testing.assert_array_equal(a[~lost], b[~lost])


def test_tables_have_the_contract_columns(sim: Simulation) -> None:
    features = sim.features("methylation")
    assert list(features) == ["feature_id", "chromosome", "position", "gene_symbol"]
    assert features["feature_id"].is_unique and "IFI44L" in set(features["gene_symbol"])
    sheet = sim.samples()
    assert sheet.index.name == "sample_id" and sheet.index[0] == "S000001"
    assert {"person_id", "visit", "date", "disease", "sex", "age", "batch", "essdai", "esspri"} <= set(sheet)
    assert sheet.loc[sheet["disease"] == "healthy", "essdai"].isna().all()
    assert {"true_interferon", "true_class"} <= set(sim.sample_truth())


@pytest.mark.parametrize(
    "bad", [{"n_samples": 0}, {"seed": -1}, {"planted_share": 2.0}, {"n_batches": 0}, {"patient_share": -0.1}]
)
def test_impossible_sizes_and_shares_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        Simulation(**({"n_samples": 5, "n_features": 5} | bad))


def test_ranges_outside_the_matrix_are_refused(sim: Simulation) -> None:
    with pytest.raises(IndexError, match="rows 0 to 301"):
        sim.block("rnaseq", 0, 301, 0, 1)
    with pytest.raises(ValueError, match="'proteome'"):
        sim.block("proteome", 0, 1, 0, 1)


def test_counts_are_what_was_planted_in_persons_batches_and_libraries() -> None:
    sim = Simulation(200, 1, 6, n_genes=1500)
    counts, planted = sim.block("rnaseq", 0, 200, 0, 1500), sim.true_expression(0, 200)
    batches = sim.true_batch_effects()
    assert list(batches.columns) == list(sim.feature_ids("rnaseq"))
    effect = batches.loc[sim.samples()["batch"]].to_numpy()
    high = planted.mean(axis=0) > 8
    rest = (np.log2(counts + 0.5) - planted)[:, high]
    rest -= np.median(rest, axis=1, keepdims=True)
    slope = (rest * effect[:, high]).sum() / (effect[:, high] ** 2).sum()
    assert slope == pytest.approx(1, abs=0.05)
    # What is left is the noise of the counts: a dispersion of about 0.05.
    assert (rest - effect[:, high]).std() == pytest.approx(np.sqrt(0.06) / np.log(2), rel=0.2)
