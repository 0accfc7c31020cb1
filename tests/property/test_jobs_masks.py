"""Cell masks of companion assays through the job: the layer of a masked assay is that of an assay with those holes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from jobs_helpers import bring, make_cohort, write_npz

from sjd_dask.errors import DataError, SpecError
from sjd_dask.jobs import driver, normalise
from sjd_dask.jobs.normalise_spec import NormaliseSpec
from sjd_dask.store.cohort import open_cohort

N, P, FIRST = 40, 90, 32
IDS = [f"S{i:02d}" for i in range(N)]
FEATURES = [f"cg{i:03d}" for i in range(P)]
STEPS = [{"method": "quantile"}, {"method": "scale"}]
MASKS = {"detection_p": {"assay": "detp"}, "bead_count": {"assay": "beads"}}


def data():
    rng = np.random.default_rng(5)
    values = rng.normal(8, 2, (N, P))
    values[3, 4] = np.nan
    p = np.where(rng.random((N, P)) < 0.05, rng.uniform(0.0101, 1, (N, P)), rng.uniform(0, 0.0099, (N, P)))
    p[5, 6] = np.nan
    beads = rng.integers(3, 20, (N, P)).astype(float)
    beads[rng.random((N, P)) < 0.03] = 2
    wanted = np.where((p <= 0.01) & (beads >= 3), values, np.nan)
    return values, p, beads, wanted


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """Two cohorts of different layout; companions in other orders of samples and features, in other segments."""
    folder = tmp_path_factory.mktemp("masks")
    rng = np.random.default_rng(6)
    values, p, beads, wanted = data()
    sheet = pd.DataFrame({"night": np.repeat([1, 2], [FIRST, N - FIRST])}, index=pd.Index(IDS, name="sample_id"))
    for name, layout in (("one", (64, 512)), ("two", (7, 16))):
        cohort = make_cohort(folder / name, *layout)
        bring(cohort, "array", write_npz(folder / "m.npz", values, IDS, FEATURES), samples=sheet)
        bring(cohort, "holes", write_npz(folder / "m.npz", wanted, IDS, FEATURES))
        for assay, table, quantity in (("detp", p, "proportion"), ("beads", beads, "counts")):
            rows, columns = rng.permutation(N), rng.permutation(P)
            for part in (rows[:25], rows[25:]):
                file = write_npz(
                    folder / "m.npz",
                    table[np.ix_(part, columns)],
                    [IDS[i] for i in part],
                    [FEATURES[i] for i in columns],
                )
                bring(cohort, assay, file, quantity)
        few = write_npz(folder / "m.npz", p[:30, :80], IDS[:30], FEATURES[:80])
        bring(cohort, "few", few, "proportion")
        less = write_npz(folder / "m.npz", p[:, :80], IDS, FEATURES[:80])
        bring(cohort, "less", less, "proportion")
    return folder


def spec(cohort, output, **keys):
    return NormaliseSpec.model_validate({"cohort": cohort, "output": output, **keys})


def run(scene, cluster, cohort, output, **keys):
    return driver._run(normalise.prepare(spec(cohort, output, **keys), scene), cluster, None, True)


def layer(done, ids):
    found = done.cohort.layer(done.results[0])
    reader = found.reader(ids)
    raw, encoding = reader.columns(0, reader.n_features)
    return encoding.decode(raw)


def quality(done):
    return done.cohort.result(done.results[1]).to_pandas().set_index("sample_id")


@pytest.mark.parametrize("cohort", ["one", "two"])
def test_masked_values_are_missing_at_fit_and_at_apply(scene, cluster, cohort):
    values, _, _, wanted = data()
    night = {"samples": "night == 1", "steps": STEPS}
    masked = run(scene, cluster, cohort, "masked", assay="array", **MASKS, **night)
    holes = run(scene, cluster, cohort, "holes", assay="holes", **night)
    np.testing.assert_array_equal(layer(masked, IDS[:FIRST]), layer(holes, IDS[:FIRST]))
    counted = (np.isnan(wanted) & ~np.isnan(values)).sum(axis=1)
    assert quality(masked).loc[IDS[:FIRST], "n_masked"].tolist() == counted[:FIRST].tolist()
    assert "n_masked" not in quality(holes)
    # New samples by the frozen chain, with the masks given again.
    frozen = {"parameters": masked.results[0], "assay": "array"}
    more = run(scene, cluster, cohort, "masked", **frozen, **MASKS)
    assert more.results[0] == masked.results[0] and not more.warnings
    again = run(scene, cluster, cohort, "holes", parameters=holes.results[0], assay="holes")
    np.testing.assert_array_equal(layer(more, IDS), layer(again, IDS))
    assert quality(more).loc[IDS, "n_masked"].tolist() == counted.tolist()
    # Without them: said, and a version of its own.
    bare = run(scene, cluster, cohort, "masked", **frozen)
    assert any("detection p above 0.01, bead count below 3" in one for one in bare.warnings)
    assert bare.results[0] != masked.results[0]
    np.testing.assert_array_equal(layer(more, IDS), layer(again, IDS))
    assert not np.isnan(layer(bare, IDS)[~np.isnan(values)]).any()


def test_a_corrected_companion_makes_its_row_anew(scene, cluster):
    keys = {"assay": "array", "detection_p": {"assay": "detp", "above": 0.05}}
    first = run(scene, cluster, "one", "corrected", steps=["scale"], **keys)
    frozen = {"parameters": first.results[0], **keys}
    assert not run(scene, cluster, "one", "corrected", **frozen).warnings
    row = np.full((1, P), 0.001)
    row[0, :10] = 1
    bring(scene / "one", "detp", write_npz(scene / "m.npz", row, IDS[7:8], FEATURES), "proportion", replace=True)
    again = run(scene, cluster, "one", "corrected", **frozen)
    assert quality(again).loc["S07", "n_masked"] == 10
    assert np.isnan(layer(again, ["S07"])).sum() == 10
    rows = open_cohort(scene / "one").layer(first.results[0])
    assert (rows.n_samples, len(rows.segments)) == (N, 2)


def test_passes_by_features_see_the_masks(scene, cluster):
    steps = [{"method": "plate_centre", "plate": "night"}]
    masked = run(scene, cluster, "two", "plates", assay="array", steps=steps, **MASKS)
    holes = run(scene, cluster, "two", "plates_holes", assay="holes", steps=steps)
    np.testing.assert_allclose(layer(masked, IDS), layer(holes, IDS), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("keys", "error", "text"),
    [
        ({"detection_p": {"assay": "few"}}, DataError, "10 of the 40 samples of 'array' are not in assay 'few': 'S30'"),
        ({"detection_p": {"assay": "less"}}, DataError, "10 of the 90 features of 'array'.*'cg080'"),
        ({"detection_p": {"assay": "beads"}}, SpecError, "holds counts, and proportion is needed"),
        ({"bead_count": {"assay": "detp"}}, SpecError, "holds proportion"),
        ({"bead_count": {"assay": "none"}}, SpecError, "none"),
    ],
)
def test_companions_that_do_not_fit_are_named(scene, keys, error, text):
    with pytest.raises(error, match=text):
        normalise.prepare(spec("one", "refused", assay="array", steps=["scale"], **keys), scene)
