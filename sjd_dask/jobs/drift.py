"""The watch of drift: do tonight's samples still lie where the model was trained, and may the night be published?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pandas as pd

from sjd_dask import names
from sjd_dask.classify.reference import CONFIDENCE, MERGED_BINS, OOD_SCORE, SHARES, Reference
from sjd_dask.designs.labels import label_text
from sjd_dask.errors import DataError
from sjd_dask.jobs.drift_spec import DriftLevels, DriftWatch
from sjd_dask.jobs.drift_window import NIGHT, STATUS, WINDOW, Part, with_earlier
from sjd_dask.kernels.drift import excess_p, kolmogorov, kolmogorov_limit, stability_index, stability_limit

NONE, WARN, HOLD = "none", "warn", "hold"
LEVELS: Final = (NONE, WARN, HOLD)
# Statuses that the classifier gives; samples of others were never scored.
SCORED: Final = (names.CALLED, *SHARES)
FEATURE, SCORE, PANEL = "feature", "score", "panel"
COLUMNS: Final = (
    "variable", "kind", "span", "batch", "n_samples", "n_persons", "psi", "psi_limit", "ks", "ks_limit", "share",
    "reference_share", "p_value", "level",
)  # fmt: skip
# Scores that say how well the samples fit the model, each in the direction that is bad: 0 lower, 1 higher. The mix of
# classes may change with who arrives: that only warns.
HOLDING_SCORES: Final = {CONFIDENCE: 0, OOD_SCORE: 1}
FEWEST_EXPECTED = 5  # values a merged bin, the rule of thumb of chi-square tests
MOST_NAMED = 5


@dataclass(frozen=True)
class DriftReport:
    """What the watch found.

    Attributes
    ----------
    table : DataFrame
        ``COLUMNS``, one row a variable, span (tonight's samples, or the newest ones) and batch ("": all). ``psi`` and
        ``ks`` are the distances, ``psi_limit`` and ``ks_limit`` what chance gives, ``share`` that of missing values of
        a feature, of samples of a status, of features that moved of the panel; ``p_value`` of its rise. Features of a
        batch by itself have rows only where they reached a level.
    level : str
        ``none``, ``warn`` or ``hold``.
    messages : tuple of str
        Why, one sentence each, the gravest first.
    window : DataFrame
        ``WINDOW_COLUMNS``: counts of the newest nights, to be stored with this night and given to the next one.
    n_samples : int
        Samples judged tonight.
    """

    table: pd.DataFrame
    level: str
    messages: tuple[str, ...]
    window: pd.DataFrame
    n_samples: int

    @property
    def is_held(self) -> bool:
        return self.level == HOLD

    def check(self, accept: bool) -> None:
        """Stop a night that is held back.

        Raises
        ------
        DataError
            The level is ``hold`` and nobody accepted it. The message has the reasons and the remedies.
        """
        if self.is_held and not accept:
            raise DataError(
                f"drift holds this night back, nothing was published: {' '.join(self.messages)} Look at the arrivals "
                "and their batch first (wrong units, another platform or normalisation, a failed run). If they are "
                "right: publish this night by `--set drift.accept=true`; if they stay like this, train the model again."
            )


@dataclass
class _Found:
    rows: list[dict[str, Any]] = field(default_factory=list)
    messages: list[tuple[str, str]] = field(default_factory=list)


def watch(
    reference: Reference,
    predictions: pd.DataFrame,
    histograms: np.ndarray,
    settings: DriftWatch,
    *,
    batches: Sequence[str] = ("",),
    earlier: pd.DataFrame | None = None,
    night: str = "",
    model: str = "",
) -> DriftReport:
    """Compare the samples whose data are new tonight with the model's frozen reference.

    Parameters
    ----------
    reference : Reference
        Of the bundle.
    predictions : DataFrame
        One row a sample that was scored for new data (not for a new model: those were watched when they came):
        ``person_id`` (missing: a person of its own), ``status``, the columns ``reference.scores``, and ``batch`` (one
        of `batches`; without that column all are of the first). Rows of other statuses are left out.
    histograms : ndarray of int64 (len(batches), p, b + 1)
        ``reference.histograms`` of the same samples' values, summed over the scoring tasks.
    settings : DriftWatch
    batches : sequence of str
    earlier : DataFrame, optional
        ``window`` of the last published night; nights of another model in it are left out.
    night, model : str
        Names of this night (its run) and of the model (its hash), for the window.

    Returns
    -------
    DriftReport

    Notes
    -----
    A variable reaches a level where its distance reaches the level's and is more than chance gives: with `alpha` shared
    out evenly (Bonferroni) over all distances taken tonight, by numbers of persons, since visits of a person are alike.
    Each feature has the population stability index in up to ten bins of equal shares (fewer for few persons), the
    Kolmogorov-Smirnov statistic, and Fisher's exact test of the share of missing values; each score the first two;
    each status Fisher's test. ``confidence`` moves where it falls, ``ood_score`` where it rises: a model that is surer
    of new samples than those of its folds were is no fault of theirs.

    A night is held back where enough features, a confidence or out-of-distribution score, or a share of a status
    reach ``hold``: tonight, or in one batch of tonight; with fewer than ``min_samples`` tonight: together with the
    nights before.

    Raises
    ------
    ValueError
        Counts that are not of these samples.
    """
    frame = predictions[predictions["status"].isin(SCORED)]
    codes = (
        pd.Index(batches).get_indexer(pd.Index(frame["batch"]))
        if "batch" in frame
        else np.zeros(len(frame), dtype=np.int64)
    )
    counts = np.concatenate([histograms, reference.score_histograms(frame, codes, len(batches))], axis=1)
    if counts.shape[1:] != reference.counts.shape or (counts.sum(axis=2) != _sizes(codes, len(batches))[:, None]).any():
        raise ValueError("the counts of values and the predictions are not of the same samples")
    people = _people(frame)
    status = frame["status"].to_numpy(dtype=object)

    def part(span: str, batch: str, chosen: np.ndarray, held: np.ndarray) -> Part:
        known = {name: int((status[chosen] == name).sum()) for name in reference.statuses}
        n, enough = int(chosen.sum()), int(chosen.sum()) >= settings.min_samples
        return Part(span, batch, held, known, n, len(set(people[chosen])), enough)

    tonight = part(NIGHT, "", np.ones(len(frame), dtype=bool), counts.sum(axis=0))
    window, pooled = with_earlier(reference, tonight, settings, earlier, night, model)
    parts = [tonight] if tonight.may_hold else []
    if pooled.n_samples > tonight.n_samples > 0 and pooled.n_samples >= settings.min_samples:
        parts.append(pooled)
    if len(batches) > 1:
        each = [part(NIGHT, name, codes == i, counts[i]) for i, name in enumerate(batches)]
        parts += [one for one in each if one.may_hold]
    found = _Found()
    if tonight.n_samples and not tonight.may_hold:
        others = f"; with the nights before {pooled.n_samples}" if pooled.n_samples > tonight.n_samples else ""
        verb = "sample is" if tonight.n_samples == 1 else "samples are"
        found.messages.append(
            (NONE, f"{tonight.n_samples} new {verb} too few to be judged alone ({settings.min_samples}){others}.")
        )
    n_tests = len(parts) * (3 * len(reference.features) + 2 * len(reference.scores) + len(reference.statuses))
    judged = []
    for one in parts:
        said = _Found(found.rows)
        _judge(one, reference, settings, settings.alpha / n_tests, said)
        judged.append((one, said))
    found.messages += _told(judged)
    level = max((level for level, _ in found.messages), key=LEVELS.index, default=NONE)
    ordered = sorted(found.messages, key=lambda one: -LEVELS.index(one[0]))
    table = pd.DataFrame(found.rows, columns=list(COLUMNS))
    return DriftReport(table, level, tuple(text for _, text in ordered), window, tonight.n_samples)


def batch_codes(batches: pd.Series | None, n: int) -> tuple[np.ndarray, list[str]]:
    """Codes and names of the batches of `n` samples, in order of name; an empty cell is the batch ``""``.

    Parameters
    ----------
    batches : Series (n,) or None
        The column of the sample sheet, in the order of the samples; None where there is none.
    """
    if batches is None or not n:
        return np.zeros(n, dtype=np.int64), [""]
    codes, different = pd.factorize(batches, use_na_sentinel=False)
    labels = [label_text(one).strip() for one in different]
    found = sorted(set(labels))
    place = {name: number for number, name in enumerate(found)}
    return np.array([place[one] for one in labels], dtype=np.int64)[codes], found


def _people(frame: pd.DataFrame) -> np.ndarray:
    """Persons of the samples; a sample without one is a person of its own."""
    alone = np.array([f"\0{i}" for i in range(len(frame))], dtype=object)
    if names.PERSON_ID not in frame:
        return alone
    known = frame[names.PERSON_ID]
    return np.where(known.notna(), known.to_numpy(dtype=object), alone)


def _sizes(codes: np.ndarray, n: int) -> np.ndarray:
    return np.bincount(codes[codes >= 0], minlength=n)


def _judge(part: Part, reference: Reference, settings: DriftWatch, alpha: float, found: _Found) -> None:
    """Add the rows and the messages of samples that are judged together."""
    n_merged = int(np.clip(part.n_persons // FEWEST_EXPECTED, 2, MERGED_BINS))
    n_features = len(reference.features)
    start = len(found.rows)
    moved: list[dict[str, Any]] = []
    scores: list[tuple[str, dict[str, Any]]] = []
    for i, name in enumerate((*reference.features, *reference.scores)):
        row = _distance(part, reference, i, name, n_merged, settings, alpha)
        if not part.batch or row["level"] != NONE or row["kind"] == SCORE:
            found.rows.append(row)
        if row["level"] == NONE:
            continue
        if row["kind"] == FEATURE:
            moved.append(row)
        else:
            row["level"] = _capped(row["level"], part) if name in HOLDING_SCORES else WARN
            scores.append((row["level"], row))
    _judge_panel(part, moved, n_features, settings, found)
    if scores:
        scores.sort(key=lambda one: -LEVELS.index(one[0]))
        named = ", ".join(f"{row['variable']} ({_numbers(row)})" for _, row in scores)
        verb = "score has" if len(scores) == 1 else "scores have"
        found.messages.append((scores[0][0], f"{_who(part)}: {len(scores)} {verb} moved: {named}."))
    _judge_statuses(part, reference, settings, alpha, found)
    for row in found.rows[start:]:
        row["level"] = _capped(row["level"], part)


def _told(judged: list[tuple[Part, _Found]]) -> list[tuple[str, str]]:
    """What is said of all parts: of a batch, or of the newest samples, only where it is worse than tonight's whole."""
    told: list[tuple[str, str]] = []
    whole, alike = 0, []
    for part, found in judged:
        own = max((LEVELS.index(level) for level, _ in found.messages), default=0)
        if part.span == NIGHT and not part.batch:
            whole = own
            told += found.messages
        elif own > whole:
            told += found.messages
        elif own and part.batch:
            alike.append(repr(part.batch))
    if alike:
        n = sum(bool(part.batch) for part, _ in judged)
        more = f" and {len(alike) - MOST_NAMED} more" if len(alike) > MOST_NAMED else ""
        named = f"{', '.join(alike[:MOST_NAMED])}{more}"
        told.append((NONE, f"{len(alike)} of {n} batches have moved by themselves: {named}."))
    return told


def _row(part: Part, kind: str, variable: str = "") -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(COLUMNS, np.nan)
    return row | {
        "variable": variable, "kind": kind, "span": part.span, "batch": part.batch, "n_samples": part.n_samples,
        "n_persons": part.n_persons, "level": NONE,
    }  # fmt: skip


def _distance(
    part: Part, reference: Reference, i: int, name: str, n_merged: int, settings: DriftWatch, alpha: float
) -> dict[str, Any]:
    """The row of one variable, the `i`-th of the reference."""
    is_feature = i < len(reference.features)
    found, frozen = part.counts[i, :-1], reference.counts[i, :-1]
    row = _row(part, FEATURE if is_feature else SCORE, name)
    psi, n_bins = stability_index(found, frozen, n_merged)
    row["psi"], row["psi_limit"] = psi, stability_limit(n_bins, part.n_persons, reference.n_persons, alpha)
    sides = kolmogorov(found, frozen)
    row["ks"] = max(sides)
    row["ks_limit"] = kolmogorov_limit(part.n_persons, reference.n_persons, alpha)
    bad = None if is_feature else HOLDING_SCORES.get(name)
    if bad is not None and sides[bad] < sides[1 - bad]:
        return row  # surer of them, or nearer: no fault of the samples
    n_missing, n_before = int(part.counts[i, -1]), int(reference.counts[i, -1])
    rise = 0.0
    if is_feature:
        row["share"], row["reference_share"] = n_missing / part.n_samples, n_before / reference.n_samples
        row["p_value"] = excess_p(n_missing, part.n_samples, n_before, reference.n_samples)
        rise = row["share"] - row["reference_share"] if row["p_value"] < alpha else 0.0
    for reached, level in _rising(settings):
        if (
            (psi >= level.psi and psi > row["psi_limit"])
            or (row["ks"] >= level.ks and row["ks"] > row["ks_limit"])
            or (is_feature and rise >= level.missing)
        ):
            row["level"] = reached
    return row


def _rising(settings: DriftWatch) -> Iterator[tuple[str, DriftLevels]]:
    yield WARN, settings.warn
    yield HOLD, settings.hold


def _judge_panel(part: Part, moved: list[dict[str, Any]], n_features: int, settings: DriftWatch, found: _Found) -> None:
    row = _row(part, PANEL, "features that moved")
    row["share"] = len(moved) / n_features if n_features else np.nan
    far = [one for one in moved if one["level"] == HOLD]
    if moved:
        if len(far) >= settings.hold.features * n_features:
            row["level"] = _capped(HOLD, part)
        elif far or len(moved) >= settings.warn.features * n_features:
            row["level"] = WARN
    found.rows.append(row)
    if row["level"] != NONE:
        worst = sorted(moved, key=lambda one: (-LEVELS.index(one["level"]), -np.nan_to_num(one["psi"])))[:MOST_NAMED]
        named = ", ".join(f"{one['variable']} ({_numbers(one)})" for one in worst)
        more = f" and {len(moved) - len(worst)} more" if len(moved) > len(worst) else ""
        found.messages.append(
            (row["level"], f"{_who(part)}: {len(moved)} of {n_features} features have moved: {named}{more}.")
        )


def _judge_statuses(part: Part, reference: Reference, settings: DriftWatch, alpha: float, found: _Found) -> None:
    for name, before in reference.statuses.items():
        row = _row(part, STATUS, name)
        row["share"], row["reference_share"] = part.statuses[name] / part.n_samples, before / reference.n_samples
        row["p_value"] = excess_p(part.statuses[name], part.n_samples, before, reference.n_samples)
        rise = row["share"] - row["reference_share"]
        if row["p_value"] < alpha:
            for level, limits in _rising(settings):
                if rise >= limits.status:
                    row["level"] = _capped(level, part)
        found.rows.append(row)
        if row["level"] != NONE:
            text = f"{_who(part)}: {100 * row['share']:.3g} % of the samples are {name.replace('_', ' ')}, "
            found.messages.append((row["level"], f"{text}{100 * row['reference_share']:.3g} % of the reference."))


def _capped(level: str, part: Part) -> str:
    return level if part.may_hold or level == NONE else WARN


def _who(part: Part) -> str:
    if part.span == WINDOW:
        return f"the newest {part.n_samples} samples"
    return f"batch {part.batch!r} of tonight" if part.batch else "tonight"


def _numbers(row: dict[str, Any]) -> str:
    text = f"PSI {row['psi']:.2f}, K-S {row['ks']:.2f}"
    if row["kind"] == FEATURE and row["share"] > row["reference_share"]:
        text += f", {100 * row['share']:.3g} % missing"
    return text
