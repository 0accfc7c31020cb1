"""Tables of a trial as a page may show them: without the counts of few persons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from sjd_dask.report.suppress import short, suppress

ALL = "all"
PARTS = ("eligible", "undetermined", "not_eligible")


def hidden_groups(table: pd.DataFrame, below: int) -> list[dict[str, int | None]]:
    """Counts of each row of a table of feasibility; None where one isn't shown.

    A row's counts add up to those screened, and the levels of a column add up to all: neither sum gives a count away.
    """
    shown = [suppress({part: int(row[part]) for part in PARTS}, below)[0] for _, row in table.iterrows()]
    for by in table["by"].unique():
        rows = [i for i, one in enumerate(table["by"]) if one == by]
        if len(rows) < 2:
            continue
        for part in PARTS:
            gone = [i for i in rows if shown[i][part] is None]
            others = [i for i in rows if shown[i][part]]
            if len(gone) == 1 and others:
                least = min(others, key=lambda i: shown[i][part] or 0)
                shown[least][part] = None
    for row in shown:
        # A second round: what the columns hid must not follow from its row.
        gone_parts = [part for part in PARTS if row[part] is None]
        left = [part for part in PARTS if row[part]]
        if len(gone_parts) == 1 and left:
            row[min(left, key=lambda part: row[part] or 0)] = None
    return shown


def steps_left(counts: Sequence[int], below: int) -> list[int | None]:
    """Falling counts; None where the step from the last one shown would tell of few persons, or few are left."""
    shown: list[int | None] = []
    last: int | None = None
    for n in counts:
        close = last is not None and 0 < last - n < below
        if close or 0 < n < below:
            shown.append(None)
        else:
            shown.append(n)
            last = n
    return shown


def of_three(counts: Mapping[str, int], below: int) -> dict[str, int | None]:
    """Counts that add up to all who were screened."""
    return suppress(counts, below)[0]


def persons_shown(effects: pd.DataFrame, below: int) -> list[str]:
    """``arm / control`` for each row of effects, a star for a count that isn't shown.

    The strata of a column add up to everyone, who are told: beside a single stratum of few another one is hidden.
    """
    shown: dict[tuple[str, str, str], int | None] = {}
    strata = effects[effects["level"] != ALL]
    for by, rows in strata.groupby("by"):
        counts = {str(arm): dict(zip(one["level"], one["n_arm"], strict=True)) for arm, one in rows.groupby("arm")}
        counts[""] = dict(zip(rows["level"], rows["n_control"], strict=True))
        for arm, by_level in counts.items():
            for level, n in suppress({str(level): int(n) for level, n in by_level.items()}, below)[0].items():
                shown[str(by), level, arm] = n
    texts = []
    for row in effects.itertuples():
        pair = [(str(row.arm), int(row.n_arm)), ("", int(row.n_control))]
        texts.append(" / ".join(short(shown.get((str(row.by), str(row.level), arm), n)) for arm, n in pair))
    return texts
