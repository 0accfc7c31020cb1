"""What a trial compares and how sharply: effect, standard errors and power of each comparison, by formula.

The mixture is taken as it is. Where classes differ in what treatment does to them, persons of one arm differ more than
those of one class, and an estimate over strata varies with who happened to enter: both count.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from sjd_dask.clinical.trials.enrichment import Population
from sjd_dask.clinical.trials.outcomes import Outcome
from sjd_dask.clinical.trials.sample_size import exact_power_for_proportions, power_of_test

FloatArray = NDArray[np.float64]

_ANALYSES: dict[str, tuple[str, ...]] = {
    "pure": ("all",),
    "all_comers": ("all",),
    "stratified": ("all", "target", "interaction"),
    "enriched": ("target",),
}


def analyses(population: Population, design: str) -> tuple[str, ...]:
    """What a design compares, first what sets its size; no interaction where all calls are the target."""
    others = population.joint[:, :-1][:, ~population.positive[:-1]].sum()
    return tuple(one for one in _ANALYSES[design] if one != "interaction" or others > 0)


def group_matrix(population: Population, design: str, analysis: str) -> FloatArray:
    """Which calls make a group of the analysis, (calls, groups), 1 or 0; a call in no group is left out."""
    calls = len(population.calls)
    positive = population.positive.astype(float)
    if design in ("pure", "all_comers"):
        return np.ones((calls, 1))
    if analysis == "interaction":
        other = 1.0 - positive
        other[-1] = 0.0  # neither the one nor the other is known of those without a call
        return np.column_stack([positive, other])
    kept = np.eye(calls)
    if analysis == "target":
        kept = kept[:, population.positive]
    return kept[:, (population.joint.sum(axis=0) @ kept) > 0]


@dataclass(frozen=True)
class Comparison:
    """A treatment effect, or a difference of two, as estimated in those enrolled.

    Attributes
    ----------
    effect : float
    used : float
        Share of the enrolled that the comparison uses.
    shares, effects : ndarray of float64, (groups,)
        Of those used: share of each group, and its effect.
    treatment, control : ndarray of float64, (groups,)
        Variance of a person in each arm, after the baseline where it is a covariate; for a binary endpoint of shares
        ``rates``, (groups, 2).
    rates : ndarray of float64 or None
    interaction, ancova : bool
    test : str
    """

    effect: float
    used: float
    shares: FloatArray
    effects: FloatArray
    treatment: FloatArray
    control: FloatArray
    rates: FloatArray | None
    interaction: bool
    ancova: bool
    test: str

    @property
    def exact(self) -> bool:
        """Whether the power can be summed over every outcome of two binomial arms."""
        return self.rates is not None and len(self.shares) == 1

    def errors(self, n_treatment: FloatArray, n_control: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """True and estimated standard error and degrees of freedom, from persons used in each arm."""
        nt, nc = np.asarray(n_treatment, dtype=float), np.asarray(n_control, dtype=float)
        true, estimated, df = (self._of_two if self.interaction else self._of_one)(nt, nc)
        return np.sqrt(true), np.sqrt(estimated), df if self.test == "t" else np.full_like(df, np.inf)

    def _of_one(self, nt: FloatArray, nc: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        total = nt + nc
        pi = nt / total
        s = self.shares
        between = float((s * (self.effects - self.effect) ** 2).sum())
        within = (s * self.treatment).sum() / nt + (s * self.control).sum() / nc
        if self.rates is None:
            mixed = (s * self.treatment).sum() * pi + (s * self.control).sum() * (1 - pi) + pi * (1 - pi) * between
            estimated = mixed * (1 / nt + 1 / nc)
        elif self.test == "pooled":
            share = self.rates[:, 0] * pi[:, None] + self.rates[:, 1] * (1 - pi[:, None])
            estimated = (s * share * (1 - share)).sum(axis=1) * (1 / nt + 1 / nc)
        else:
            estimated = within
        df = total - len(s) - 1 - self.ancova
        more = self._by_chance(df)
        return (within + between / total) * more, estimated * more, df

    def _of_two(self, nt: FloatArray, nc: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Each group's effect with its own variance (and slope), as if it were analysed alone."""
        nt, nc = nt[:, None] * self.shares, nc[:, None] * self.shares
        total = nt + nc
        df = np.maximum(total - 2 - self.ancova, 1.0)
        more = self._by_chance(df)
        true = (self.treatment / nt + self.control / nc) * more
        estimated = true
        if self.rates is None:
            estimated = (self.treatment * nt + self.control * nc) / total * (1 / nt + 1 / nc) * more
        both = estimated.sum(axis=1)
        return true.sum(axis=1), both, both**2 / (estimated**2 / df).sum(axis=1)

    def _by_chance(self, df: FloatArray) -> FloatArray | float:
        """What is lost since the arms' baselines differ by chance while their slope is estimated."""
        return 1 + 1 / np.maximum(df - 1, 1) if self.ancova else 1.0

    def power(
        self, enrolled: float, part: float, *, alpha: float, sided: int, kept: float = 1.0, strict: bool = True,
        spread: bool = False,
    ) -> float:  # fmt: skip
        """Power with so many persons enrolled.

        Parameters
        ----------
        enrolled
            Persons of both arms.
        part
            Share of them in the treatment arm.
        kept
            Chance of a person to have an outcome.
        strict
            Count rejections in the wrong direction.
        spread
            Average over how many the comparison will find, instead of taking the expected number.
        """
        n, chance = self._found(enrolled, kept) if spread else (np.array([enrolled * self.used * kept]), np.ones(1))
        true, estimated, df = self.errors(n * part, n * (1 - part))
        found = power_of_test(
            self.effect, true, estimated=estimated, df=np.maximum(df, 1.0), alpha=alpha, sided=sided, strict=strict
        )
        return float(found @ chance)

    def exact_power(self, enrolled: int, part: float, *, alpha: float, sided: int, kept: float = 1.0) -> float:
        """Power over every outcome of two binomial arms, averaged over how many persons the comparison will find.

        NaN where it can't be summed so: a continuous endpoint, or several groups.
        """
        if self.rates is None or len(self.shares) > 1:
            return math.nan
        one, other = (float(rate) for rate in self.rates[0])
        n, chance = self._found(enrolled, kept, most=61)
        found = [
            exact_power_for_proportions(
                one, other, round(k * part), round(k) - round(k * part), alpha=alpha, sided=sided, method=self.test
            )
            for k in n
        ]
        return float(np.asarray(found) @ chance)

    def _found(self, enrolled: float, kept: float, most: int | None = None) -> tuple[FloatArray, FloatArray]:
        """How many persons the comparison may find, and the chance of each; at most so many numbers."""
        share = self.used * kept
        if share >= 1:
            return np.array([float(enrolled)]), np.ones(1)
        low, high = stats.binom.ppf([1e-9, 1 - 1e-9], round(enrolled), share)
        step = 1 if most is None else max(1, math.ceil((high - low + 1) / most))
        n = np.arange(max(int(low), 8), max(int(high), 8) + 1, step, dtype=float)
        chance = stats.binom.pmf(n, round(enrolled), share)
        return n, chance / chance.sum()


def compare(outcome: Outcome, population: Population, design: str, analysis: str) -> Comparison:
    """The comparison of an endpoint.

    Parameters
    ----------
    outcome
        With its shares as the analysis counts them.
    design
        "pure", "all_comers", "stratified" or "enriched".
    analysis
        "all" (stratified by call in a stratified design), "target" (those called target) or "interaction" (effect in
        those called target less that in those called otherwise).
    """
    joint = population.enrolled(design) @ group_matrix(population, design, analysis)  # (strata, groups)
    used = float(joint.sum())
    joint = joint / used
    shares = joint.sum(axis=0)
    within = joint / shares  # of each group, the share of each stratum
    arms = [outcome.treatment @ within, outcome.control @ within]
    effects = arms[0] - arms[1]
    rates = np.column_stack(arms) if outcome.binary else None
    variances = []
    for mean, expected in zip(arms, (outcome.treatment, outcome.control), strict=True):
        if outcome.binary:
            variances.append(mean * (1 - mean))
            continue
        variance = outcome.sd**2 @ within + (((expected[:, None] - mean) ** 2) * within).sum(axis=0)
        if outcome.ancova:
            tie = (outcome.correlation * outcome.sd) @ within
            slope = tie if analysis == "interaction" else float(tie @ shares)
            variance = variance - 2 * slope * tie + slope**2
        variances.append(variance)
    interaction = analysis == "interaction"
    effect = float(effects[0] - effects[1]) if interaction else float(effects @ shares)
    return Comparison(effect, used, shares, effects, variances[0], variances[1], rates, interaction,
                      outcome.ancova, outcome.test)  # fmt: skip
