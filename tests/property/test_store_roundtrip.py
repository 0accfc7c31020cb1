"""Whatever is stored comes back, however it was cut, replaced, merged and asked for."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_helpers import decoded, put

from sjd_dask.store.cohort import create_cohort
from sjd_dask.store.compact import compact
from sjd_dask.store.hashing import row_hashes
from sjd_dask.store.layout import Encoding, Layout, common_encoding, convert


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_rows_come_back(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    n_features = data.draw(st.integers(1, 40))
    layout = Layout(data.draw(st.integers(1, 6)), data.draw(st.integers(1, 15)))
    with tempfile.TemporaryDirectory() as folder:
        cohort = create_cohort(Path(folder) / "c", layout=layout)
        truth: dict[str, np.ndarray] = {}
        for _ in range(data.draw(st.integers(1, 4))):
            ids = data.draw(st.lists(st.integers(0, 25), min_size=1, max_size=12, unique=True))
            top = data.draw(st.sampled_from([200, 60_000, 4_000_000]))
            values = rng.integers(0, top, (len(ids), n_features)).astype(float)
            values[rng.random(values.shape) < 0.1] = np.nan
            put(cohort, "rna", [f"s{one}" for one in ids], values, "counts", replace=True)
            truth.update({f"s{one}": row for one, row in zip(ids, values, strict=True)})
        if data.draw(st.booleans()):
            compact(cohort, small_rows=100, target_rows=data.draw(st.integers(1, 30)))
        wanted = data.draw(st.permutations(sorted(truth)))[: data.draw(st.integers(1, len(truth)))]
        expected = np.array([truth[one] for one in wanted])
        np.testing.assert_array_equal(decoded(cohort, "rna", wanted), expected)
        reader = cohort.assay("rna").reader(wanted)
        rows = data.draw(st.integers(1, 12))
        start = data.draw(st.integers(0, n_features - 1))
        stop = data.draw(st.integers(start + 1, n_features))
        seen = []
        got = np.empty((len(wanted), stop - start))
        for positions, raw, encoding in reader.row_blocks(start, stop, rows, reuse=data.draw(st.booleans())):
            got[positions] = encoding.decode(raw)
            seen += positions.tolist()
        assert sorted(seen) == list(range(len(wanted)))
        np.testing.assert_array_equal(got, expected[:, start:stop])


@given(
    st.lists(st.floats(0, 1) | st.just(float("nan")), min_size=1, max_size=50),
)
def test_betas_are_off_by_half_a_step_at_most(values: list[float]) -> None:
    encoding = Encoding("uint16", 1 / 65534, 65535)
    given_values = np.array(values)
    back = encoding.decode(encoding.encode(given_values))
    assert (np.isnan(back) == np.isnan(given_values)).all()
    assert np.nanmax(np.abs(back - given_values), initial=0) <= 0.5 / 65534 * (1 + 1e-9)
    np.testing.assert_array_equal(encoding.encode(back), encoding.encode(given_values))


@given(st.lists(st.integers(0, 254) | st.none(), min_size=1, max_size=30))
def test_row_hashes_do_not_depend_on_width(values: list[int | None]) -> None:
    row = np.array([[np.nan if one is None else one for one in values]])
    narrow, wide = Encoding("uint8", None, 255), Encoding("uint32", None, 2**32 - 1)
    raw = narrow.encode(row)
    assert row_hashes(raw, narrow) == row_hashes(convert(raw, narrow, common_encoding([narrow, wide])), wide)
    single, double = Encoding("float32"), Encoding("float64")
    assert row_hashes(single.encode(row), single) == row_hashes(double.encode(row), double)
