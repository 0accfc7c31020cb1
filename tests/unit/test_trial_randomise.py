"""Randomisation lists: balanced in every block, made again from seed and stratum alone."""

from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np
import pandas as pd
import pytest

from sjd_dask.clinical.trials.randomise import balance, level_text, observed_levels, randomisation_lists
from sjd_dask.errors import SpecError

PINNED = "papapappaaaapapp"
STRATA = {"molecular_class": ["C1", "C3"], "site": ["Brest", "Milan"]}


def of(table: pd.DataFrame, stratum: str) -> list[str]:
    return table.loc[table["stratum"] == stratum, "arm"].tolist()


def test_the_list_is_the_same_for_ever() -> None:
    """Written out: another order would give persons of a running trial another arm."""
    table = randomisation_lists(["active", "placebo"], {"site": ["A"]}, seed=42, per_stratum=12)
    assert "".join(arm[0] for arm in table["arm"]) == PINNED
    assert table["number"].iloc[0] == "site=A-0001" and table["sequence"].tolist() == list(range(1, len(table) + 1))


def test_the_list_is_the_one_that_the_documentation_tells_to_make() -> None:
    def number(*lines: object) -> int:
        return int(hashlib.sha256("\n".join(map(str, lines)).encode()).hexdigest(), 16)

    stratum = '{"molecular_class": "C1", "site": "Besançon"}'
    made: list[str] = []
    for block in (1, 2, 3):
        size = (6, 9)[number(11, stratum, block, "size") % 2]
        arms = ["active", "active", "placebo"] * (size // 3)
        made += [arms[place] for place in sorted(range(size), key=lambda place: number(11, stratum, block, place))]
    found = randomisation_lists(
        ["active", "placebo"], {"site": ["Besançon"], "molecular_class": ["C1"]}, seed=11, allocation=[2, 1],
        per_stratum=len(made),
    )  # fmt: skip
    assert found["arm"].tolist() == made


@pytest.mark.parametrize("allocation", [None, (1, 1), (2, 1), (3, 2), (4, 2)])
def test_every_block_holds_each_arm_in_its_share(allocation: tuple[int, ...] | None) -> None:
    table = randomisation_lists(["a", "b"], STRATA, seed=1, allocation=allocation, per_stratum=57)
    shares = np.array(allocation or (1, 1)) // np.gcd(*(allocation or (1, 1)))
    for _, block in table.groupby(["stratum", "block"]):
        counts = np.array([(block["arm"] == arm).sum() for arm in "ab"])
        assert (counts * shares.sum() == shares * len(block)).all()
        assert len(block) == block["block_size"].iloc[0]
    sizes = set(table["block_size"])
    assert sizes == {2 * shares.sum(), 3 * shares.sum()}
    assert (table.groupby("stratum").size() >= 57).all() and len(table.groupby("stratum")) == 4


def test_no_stratum_changes_another_and_a_longer_list_begins_with_the_shorter() -> None:
    arms = ["a", "b", "c"]
    whole = randomisation_lists(arms, STRATA, seed=7, per_stratum=60)
    more = randomisation_lists(arms, {"site": ["Paris", "Milan", "Brest"], "molecular_class": ["C1", "C2", "C3"]},
                               seed=7, per_stratum=200)  # fmt: skip
    for stratum in whole["stratum"].unique():
        assert of(more, stratum)[: len(of(whole, stratum))] == of(whole, stratum)
    listed = randomisation_lists(arms, [{"site": "Milan", "molecular_class": "C3"}], seed=7, per_stratum=60)
    assert listed["arm"].tolist() == of(whole, "molecular_class=C3|site=Milan")


def test_seeds_and_strata_have_lists_of_their_own() -> None:
    first = randomisation_lists(["a", "b"], STRATA, seed=1, per_stratum=60)
    second = randomisation_lists(["a", "b"], STRATA, seed=2, per_stratum=60)
    lists = [tuple(of(table, one)[:60]) for table in (first, second) for one in table["stratum"].unique()]
    assert len(set(lists)) == 8


def test_each_order_of_a_block_is_as_likely() -> None:
    strata = [{"person": str(i)} for i in range(1200)]
    table = randomisation_lists(["a", "b"], strata, seed=3, block_sizes=[4], per_stratum=4)
    orders = Counter(map("".join, table["arm"].to_numpy().reshape(-1, 4)))
    assert len(orders) == 6
    # 23.5: a chi-squared with 5 degrees of freedom exceeds it once in 3700 lists, and this list never changes.
    assert sum((n - 200) ** 2 / 200 for n in orders.values()) < 23.5


def test_balance_tells_counts_and_no_order() -> None:
    table = randomisation_lists(
        ["a", "b"], {"site": ["x", "y"]}, seed=5, allocation=[2, 1], block_sizes=[6], per_stratum=30
    )
    found = balance(table).set_index("stratum")
    assert found.loc["site=x", ["places", "blocks", "a", "b"]].tolist() == [30, 5, 20, 10]
    assert (found["largest_imbalance"] <= 2).all() and (found["largest_imbalance"] > 0).all()


def test_levels_of_persons() -> None:
    frame = pd.DataFrame({"site": [1.0, 2.0, np.nan], "group": ["x", None, "y"]})
    assert observed_levels(frame, ["site", "group"]) == {"site": ["1", "2", "unknown"], "group": ["unknown", "x", "y"]}
    assert level_text(frame["site"]).tolist() == ["1", "2", "unknown"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"arms": ["a"]}, "two or more arms"),
        ({"arms": ["a", "a"]}, "each named once"),
        ({"arms": ["a", "b"], "allocation": [1]}, "one whole number"),
        ({"arms": ["a", "b"], "allocation": [1, 0]}, "at least 1"),
        ({"arms": ["a", "b"], "block_sizes": [4, 5]}, "multiple of 2"),
        ({"arms": ["a", "b"], "block_sizes": []}, "holds nothing"),
        ({"arms": ["a", "b"], "per_stratum": 0}, "at least 1 place"),
        ({"arms": ["a", "b"], "strata": {"site": ["x", "x"]}}, "name each once"),
        ({"arms": ["a", "b"], "strata": [{"s": "x"}, {"s": "x"}]}, "twice"),
        ({"arms": ["a", "b"], "strata": {"s": ["x", "x|t=y"], "t": ["z", "y|t=z"]}}, "twice"),
        ({"arms": ["a", "b"], "strata": {"arm": ["x", "y"]}}, "'arm', which is one of the list's own"),
        ({"arms": ["a", "A "]}, "nobody can tell apart"),
        ({"arms": ["places", "b"]}, "table of balance"),
        ({"arms": ["a", "b"], "block_sizes": [10_000_000]}, "smaller blocks"),
        ({"arms": ["a", "b"], "allocation": [1_000_000, 1]}, "smaller blocks"),
    ],
)
def test_what_is_refused(options: dict, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        randomisation_lists(options.pop("arms"), options.pop("strata", {}), seed=1, **options)
