"""What a classifier is made with: every parameter declared."""

from __future__ import annotations

from dataclasses import dataclass

from sjd_dask.errors import SpecError

PANEL_METHODS = ("elastic_net", "stability", "all_relevant", "none")
MODELS = ("multinomial", "random_forest", "gradient_boosting", "shrunken_centroid")
CALIBRATIONS = ("sigmoid", "isotonic", "temperature", "none")
CLASS_WEIGHTS = ("none", "balanced")
AUTO = "auto"
# Sizes of panel that `auto` tries: each twice the one before, from what a cheap assay measures to what is no panel any
# more.
SIZES = (25, 50, 100, 200, 400)


@dataclass(frozen=True)
class Recipe:
    """Parameters of a classifier.

    Parameters
    ----------
    panel_method : str
        How features are chosen: "elastic_net" (path of a multi-response elastic net), "stability" (how often the path
        takes them in half-samples of persons), "all_relevant" (in the manner of Boruta) or "none" (all that pass the
        prefilter).
    panel_size : int or "auto"
        At most so many features; with "none" there is no limit but `prefilter`. "auto": the one of `SIZES` that
        is best in the inner folds (see `choose_size`).
    model : str
        "multinomial" (logistic regression, elastic net), "random_forest", "gradient_boosting" or "shrunken_centroid".
    calibration : str
        "sigmoid", "isotonic", "temperature" or "none": how scores become probabilities.
    coverage : float
        Wanted share of persons whose class is in the conformal set, in (0, 1).
    inner : int
        Folds of persons in which panel, scaling and model are made again, for tuning, calibration and coverage.
    seed : int
    max_missing : float
        Share of features that may be missing in a sample, in [0, 1). Above it the sample has no probabilities.
        Features missing in a larger share of the training samples aren't taken.
    abstain_rate : float
        Share of in-distribution persons that the out-of-distribution threshold may turn away, in (0, 1).
    prefilter : int
        Features with the largest F statistic that the panel is chosen from, in every fold anew.
    sentinels : int
        Features beside the panel that tell whether a sample looks like the training samples at all.
    class_weight : str
        "none": a class counts by its persons, so rare classes have low probabilities unless their values are clear.
        "balanced": model and panel see classes of equal weight; calibration brings back what is common.

    Raises
    ------
    SpecError
        A value outside its range.
    """

    panel_method: str = "elastic_net"
    panel_size: int | str = 50
    model: str = "multinomial"
    calibration: str = "sigmoid"
    coverage: float = 0.9
    inner: int = 5
    seed: int = 1
    max_missing: float = 0.1
    abstain_rate: float = 0.05
    prefilter: int = 2000
    sentinels: int = 200
    class_weight: str = "none"

    def __post_init__(self) -> None:
        for name, known in (
            ("panel_method", PANEL_METHODS),
            ("model", MODELS),
            ("calibration", CALIBRATIONS),
            ("class_weight", CLASS_WEIGHTS),
        ):
            if getattr(self, name) not in known:
                raise SpecError(f"{name} {getattr(self, name)!r} is not known; choose from {list(known)}.")
        for name, least, most in (
            ("panel_size", 1, 100_000),
            ("inner", 2, 100),
            ("prefilter", 1, 1_000_000),
            ("sentinels", 0, 10_000),
        ):
            value = getattr(self, name)
            if name == "panel_size" and value == AUTO and self.panel_method != "none":
                continue
            if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
                more = f", or {AUTO!r} with a method that ranks features" if name == "panel_size" else ""
                raise SpecError(f"{name} is {value!r}; it must be a whole number within {least}..{most}{more}.")
        for name in ("coverage", "abstain_rate"):
            if not 0.0 < getattr(self, name) < 1.0:
                raise SpecError(f"{name} is {getattr(self, name)}; it must be above 0 and below 1.")
        if not 0.0 <= self.max_missing < 1.0:
            raise SpecError(f"max_missing is {self.max_missing}; it must be at least 0 and below 1.")

    @property
    def sizes(self) -> tuple[int, ...]:
        """The sizes of panel that are tried, ascending."""
        if self.panel_method == "none":
            return (self.prefilter,)
        if isinstance(self.panel_size, int):
            return (self.panel_size,)
        return tuple(sorted({min(size, self.prefilter) for size in SIZES}))
