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

ANALYSES: dict[str, tuple[str, ...]] = {
    "pure": ("all",),
    "all_comers": ("all",),
    "stratified": ("all", "target", "interaction"),
    "enriched": ("target",),
}


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
        total = nt + nc
        pi = nt / total
        s = self.shares
        if self.interaction:
            arms = (1 / s).sum()
            true = (self.treatment / s).sum() / nt + (self.control / s).sum() / nc
            mixed = (s * self.treatment).sum() * pi + (s * self.control).sum() * (1 - pi)
            estimated = true if self.rates is not None else mixed * arms * (1 / nt + 1 / nc)
            parameters = 4
        else:
            between = float((s * (self.effects - self.effect) ** 2).sum())
            within = (s * self.treatment).sum() / nt + (s * self.control).sum() / nc
            true = within + between / total
            if self.rates is None:
                mixed = (s * self.treatment).sum() * pi + (s * self.control).sum() * (1 - pi) + pi * (1 - pi) * between
                estimated = mixed * (1 / nt + 1 / nc)
            elif self.test == "pooled":
                share = self.rates[:, 0] * pi[..., None] + self.rates[:, 1] * (1 - pi[..., None])
                estimated = (s * share * (1 - share)).sum(axis=-1) * (1 / nt + 1 / nc)
            else:
                estimated = within
            parameters = len(s) + 1
        df = total - parameters - self.ancova
        if self.ancova:  # the baseline differs between the arms by chance, and its slope is estimated
            more = 1 + 1 / np.maximum(df - 1, 1)
            true, estimated = true * more, estimated * more
        return np.sqrt(true), np.sqrt(estimated), df if self.test == "t" else np.full_like(total, np.inf)

    def power(
        self, treatment: float, control: float, *, alpha: float, sided: int, strict: bool = True, spread: bool = False
    ) -> float:
        """Power with so many persons enrolled (with an outcome) in each arm.

        ``spread``: average over how many of them the comparison will find, instead of taking the expected number.
        """
        if spread:
            n, chance = self._found(treatment + control)
        else:
            n, chance = np.array([(treatment + control) * self.used]), np.ones(1)
        part = treatment / (treatment + control)
        true, estimated, df = self.errors(n * part, n * (1 - part))
        found = power_of_test(
            self.effect, true, estimated=estimated, df=np.maximum(df, 1.0), alpha=alpha, sided=sided, strict=strict
        )
        return float(found @ chance)

    def exact_power(self, treatment: int, control: int, *, alpha: float, sided: int) -> float:
        """Power over every outcome of two binomial arms; NaN where it can't be summed so.

        Where the comparison uses a part of the enrolled, the mean over how many it will find.
        """
        if not self.exact or self.rates is None:
            return math.nan
        one, other = (float(rate) for rate in self.rates[0])
        n, chance = self._found(treatment + control, most=61)
        part = treatment / (treatment + control)
        found = [
            exact_power_for_proportions(
                one, other, round(k * part), round(k) - round(k * part), alpha=alpha, sided=sided, method=self.test
            )
            for k in n
        ]
        return float(np.asarray(found) @ chance)

    def _found(self, enrolled: float, most: int | None = None) -> tuple[FloatArray, FloatArray]:
        """How many of the enrolled the comparison may find, and the chance of each; at most so many numbers."""
        if self.used >= 1:
            return np.array([float(enrolled)]), np.ones(1)
        low, high = stats.binom.ppf([1e-9, 1 - 1e-9], round(enrolled), self.used)
        step = 1 if most is None else max(1, math.ceil((high - low + 1) / most))
        n = np.arange(max(int(low), 8), max(int(high), 8) + 1, step, dtype=float)
        chance = stats.binom.pmf(n, round(enrolled), self.used)
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
            slope = float(tie @ shares)
            variance = variance - 2 * slope * tie + slope**2
        variances.append(variance)
    interaction = analysis == "interaction"
    effect = float(effects[0] - effects[1]) if interaction else float(effects @ shares)
    return Comparison(effect, used, shares, effects, variances[0], variances[1], rates, interaction,
                      outcome.ancova, outcome.test)  # fmt: skip
