"""What is ingested is what is read, whatever the shape, order and format, and the size of blocks, tiles and chunks."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import numpy as np
import pandas as pd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sjd_dask.store.ingest import ingest, spool, writing
from sjd_dask.store.ingest.sources import lines, numbers, open_source, text

TOKEN = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.decimals(allow_nan=False, allow_infinity=False, places=5, min_value=-1000, max_value=1000).map(str),
    st.integers(-(10**20), 10**20).map(str),
    st.sampled_from(numbers.MISSING_TOKENS),
    st.text("0123456789.eE+-NAna ", max_size=8),
)


@settings(max_examples=150, deadline=None)
@given(rows=st.lists(st.lists(TOKEN, min_size=3, max_size=3), min_size=1, max_size=6), compiled=st.booleans())
def test_fast_parsers_never_differ_from_the_slow_one(rows: list[list[str]], compiled: bool) -> None:
    block = "".join(f"f{i}\t" + "\t".join(r) + "\n" for i, r in enumerate(rows)).encode()
    arguments = (block, 2, "\t", ["A", "B", "C"], ("feature", "sample"), Path("x"))

    def outcome(read: object) -> object:
        try:
            ids, values = read()  # type: ignore[operator]
        except Exception as error:
            return str(error)
        return ids, values.tobytes()

    assert outcome(lambda: numbers.parse_block(*arguments, compiled=compiled)) == outcome(
        lambda: numbers._slow(*arguments)
    )


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    n_samples=st.integers(1, 9),
    n_features=st.integers(1, 23),
    chunks=st.tuples(st.integers(1, 5), st.integers(1, 9)),
    seed=st.integers(0, 2**32 - 1),
    quantity=st.sampled_from(["beta", "counts", "expression"]),
    by_samples=st.booleans(),
    compiled=st.booleans(),
    small=st.booleans(),
)
def test_content_does_not_depend_on_the_way_in(
    n_samples: int,
    n_features: int,
    chunks: tuple[int, int],
    seed: int,
    quantity: str,
    by_samples: bool,
    compiled: bool,
    small: bool,
) -> None:
    from sjd_dask.store.cohort import create_cohort
    from sjd_dask.store.layout import Layout

    rng = np.random.default_rng(seed)
    values = {
        "beta": rng.random((n_features, n_samples)),
        "counts": rng.integers(0, 300, (n_features, n_samples)).astype(float),
        "expression": rng.normal(size=(n_features, n_samples)),
    }[quantity]
    values[rng.random(values.shape) < 0.1] = np.nan
    values[0] = 1.0  # no sample without a value
    features = [f"f{i}" for i in range(n_features)]
    table = pd.DataFrame(values, index=features, columns=[f"S{i}" for i in range(n_samples)])
    shuffled = table.iloc[rng.permutation(n_features), rng.permutation(n_samples)]
    with TemporaryDirectory() as folder:
        first, second = Path(folder) / "a.csv", Path(folder) / "b.tsv.gz"
        table.to_csv(first)
        (shuffled.T if by_samples else shuffled).to_csv(second, sep="\t", na_rep="NA")
        cohort = create_cohort(Path(folder) / "c", layout=Layout(*chunks))
        ingest(cohort, "m", first, quantity=quantity, max_missing=1)
        raw, encoding = cohort.assay("m").reader(list(table.columns)).columns(0, n_features)
        tolerance = 8e-6 if quantity == "beta" else 0
        np.testing.assert_allclose(encoding.decode(raw).T, values, rtol=0, atol=tolerance)
        with (
            mock.patch.object(text, "COMPILE_AFTER", 0 if compiled else 1 << 60),
            mock.patch.object(lines, "TEXT_BLOCK", 40 if small else lines.TEXT_BLOCK),
            mock.patch.object(lines, "_READ", 13 if small else lines._READ),
            mock.patch.object(writing, "TILE_BYTES", 1 if small else writing.TILE_BYTES),
            mock.patch.object(spool.Spool.__init__, "__defaults__", (None, 16 if small else 1 << 20)),
        ):
            again = ingest(cohort, "m", second, rows="samples" if by_samples else "features", max_missing=1)
        assert again.status == "unchanged"


@settings(max_examples=30, deadline=None)
@given(
    names=st.lists(
        st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1), min_size=2, unique=True
    )
)
def test_ids_of_any_script_come_through_csv(names: list[str]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "m.csv"
        pd.DataFrame([[1.0] * len(names)] * len(names), index=names, columns=names).to_csv(path)
        with open_source(path) as source:
            assert source.minor_ids == names
            assert [i for b in source.blocks() for i in b.ids] == names
