"""The rounds of an association with weights: library sizes, trend, weights of samples; then comes the fit.

Each round is a pass over the data on the workers, followed by a small step here. What a round leaves is kept in parts
like any other, so a run that is resumed takes up where it stopped.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sjd_dask import names
from sjd_dask.errors import PlanRefused, SpecError
from sjd_dask.jobs import associate_inputs as inputs
from sjd_dask.jobs import weight_tasks as tasks
from sjd_dask.jobs.spec import AssociateSpec
from sjd_dask.kernels import array_weights, linear
from sjd_dask.kernels import voom as vooms
from sjd_dask.runtime.plan import Partition

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sjd_dask.jobs.driver import Runner
    from sjd_dask.store.assay import Assay
    from sjd_dask.store.cohort import Cohort

Floats = NDArray[np.float64]

# Methods that a run without weights doesn't use, with the version of their numbers.
METHOD_VERSIONS = {"weighted": 2, "voom": 1, "array_weights": 2}
# Weights of samples take a matrix of samples by samples, and in the order of features one solve a feature.
MOST_SAMPLES = 5_000


@dataclass(frozen=True)
class Weighting:
    """What weights are asked for.

    Attributes
    ----------
    kind : {'voom', 'voom_quality', 'array'}
    span : float
    method : {'auto', 'genebygene', 'reml'}
        Of the weights of samples.
    library : (n,), optional
        Effective library sizes that are known before the run (those of a layer).
    sample_ids : tuple of str
    """

    kind: Literal["voom", "voom_quality", "array"]
    span: float
    method: array_weights.ArrayMethod
    sample_ids: tuple[str, ...]
    library: Floats | None = None

    @property
    def has_trend(self) -> bool:
        """Whether weights follow the size of counts."""
        return self.kind != "array"

    @property
    def has_samples(self) -> bool:
        """Whether each sample gets a weight, for which whole columns are read."""
        return self.kind != "voom"

    @property
    def counts_libraries(self) -> bool:
        """Whether library sizes are counted in the run."""
        return self.has_trend and self.library is None

    def rounds(self) -> list[str]:
        """Rounds that are sure to come, the fit among them; steps of `reml` are added as they are needed."""
        found = ["library"] if self.counts_libraries else []
        if self.kind == "voom":
            found += ["trend"]
        elif self.kind == "array":
            found += ["samples 1"]
        else:
            found += ["trend", "samples 1", "trend again", "samples again 1"]
        return [*found, "fit"]

    def key(self) -> dict[str, Any]:
        """What makes a run another run."""
        return {"kind": self.kind, "span": self.span, "method": self.method, "library": self.library}


def asked_weights(
    spec: AssociateSpec, cohort: Cohort, assay: Assay, quantity: str, sample_ids: Sequence[str]
) -> Weighting | None:
    """What a spec means by its weights on this input; None for none.

    Raises
    ------
    SpecError
        voom weights of values that no library sizes belong to; weights together with what can't take them.
    DataError
        A layer without its library sizes.
    """
    kind = spec.weights
    last = inputs.last_step(assay) if spec.layer is not None else None  # type: ignore[arg-type]
    if kind == "auto":
        if last != "voom" or spec.test != "linear":
            return None
        kind = "voom"
        taken = ["`block`"] if spec.block is not None else []
        taken += ["`precision: single`"] if spec.precision == "single" else []
        if taken:
            raise SpecError(
                f"the last step of {spec.layer} is voom, so its weights are used, and they don't go together with "
                f"{' and '.join(taken)} in this version: leave that out, or say `weights: none`"
            )
    if kind == "none":
        return None
    library = None
    if kind != "array":
        if spec.layer is not None:
            if last != "voom":
                raise SpecError(
                    f"`weights: {kind}` needs a layer whose last step is voom; that of {spec.layer} is "
                    f"{last or 'not known'}. Make one with the step voom last, or say `weights: array` or `none`"
                )
            library = inputs.layer_library_sizes(cohort, assay, sample_ids)  # type: ignore[arg-type]
        elif quantity != names.COUNTS:
            raise SpecError(
                f"`weights: {kind}` needs counts, and assay {assay.name!r} holds {assay.quantity}; use an assay of "
                "counts, or a layer whose last step is voom"
            )
    return Weighting(kind, spec.span, spec.array_method, tuple(sample_ids), library)


def check_size(weighting: Weighting, n_samples: int) -> None:
    """Refuse more samples than weights of samples can be worked out for."""
    if weighting.has_samples and n_samples > MOST_SAMPLES:
        raise PlanRefused(
            f"`weights: {weighting.kind}` works with a matrix of {n_samples:,} x {n_samples:,} samples, and takes "
            f"{MOST_SAMPLES:,} samples at most. Remedy: `weights: voom` or `none`, or fewer samples."
        )


@dataclass
class Rounds:
    """Runs the rounds one after another; the weights are in `work` afterwards."""

    runner: Runner | None
    stripes: list[Partition]
    n_features: int
    weighting: Weighting
    work: tasks.WeightedWork
    facts: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    _next: int = 0
    _missing: bool = True

    def estimate(self) -> None:
        """All rounds before the fit."""
        kind = self.weighting.kind
        self.facts["kind"] = kind
        if self.weighting.has_trend:
            self._library()
            self._trend("trend")
        if self.weighting.has_samples:
            self._samples("samples")
        if kind == "voom_quality":
            self._trend("trend again")
            self._samples("samples again")
        if kind == "array" and not self._missing:
            # limma's contrasts then take the correlations of the weighted design.
            assert self.work.samples is not None
            root = np.sqrt(self.work.samples)[:, None]
            covariance = linear.linear_design(self.work.model.basis.matrix * root).cov_unscaled
            self.work = replace(self.work, cov_unscaled=covariance)

    def fit(self) -> Any:
        """The tables of the fit."""
        return self._run("fit", tasks.fit_weighted_partition, self.work, self.stripes)

    def _run(self, name: str, function: Any, work: tasks.WeightedWork, stripes: list[Partition]) -> Any:
        partitions = numbered(stripes, name, self._next)
        self._next += len(partitions)
        assert self.runner is not None
        return self.runner.run(function, work, partitions)

    def _library(self) -> None:
        if self.weighting.library is not None:
            self.work = replace(self.work, library=self.weighting.library)
            return
        parts = self._run("library", tasks.library_partition, self.work, self.stripes)
        total = np.zeros(len(self.weighting.sample_ids))
        for part in parts:
            total += part["library_size"].to_numpy()
        where = f"assay {self.work.matrix.reader.assay!r}"
        inputs.check_library_sizes(total, self.weighting.sample_ids, where, "say `weights: none`")
        self.work = replace(self.work, library=total)

    def _trend(self, name: str) -> None:
        parts = self._run(name, tasks.trend_partition, self.work_of_trend(), self.stripes)
        columns = joined(parts)
        coefficients = np.stack([columns[f"coefficient_{j}"] for j in range(self.work.model.basis.p)])
        assert self.work.library is not None
        line = vooms.voom_line(
            columns["mean"],
            np.sqrt(columns["sigma2"]),
            self.work.library,
            columns["largest"],
            span=self.weighting.span,
        )
        self.warnings += [note for note in line.notes if note not in self.warnings]
        self.work = replace(self.work, trend=tasks.Trend(line, coefficients))
        self.facts |= {
            "span": self.weighting.span,
            "library_sizes": "of the assay" if self.weighting.library is None else "effective, of the layer",
            "trend": _outline(line),
        }

    def work_of_trend(self) -> tasks.WeightedWork:
        """The fit that a trend is made from has the weights of samples alone."""
        return replace(self.work, trend=None)

    def _samples(self, name: str) -> None:
        basis = self.work.model.basis
        cells = replace(self.work, samples=None)
        if self.n_features < 2 or basis.df_residual < 2:
            self.warnings.append("fewer than two features or residual degrees of freedom: weights of samples are one")
            self.work = replace(self.work, samples=np.ones(basis.n))
            return
        method = self.weighting.method
        if method == "auto" and self.work.trend is not None:
            method = "genebygene"
        found = None if method == "genebygene" else self._reml(name, cells, stop_at_missing=method == "auto")
        if found is None:
            method = "genebygene"
            everything = [Partition(0, 0, self.n_features)]
            part = next(iter(self._run(f"{name}, one by one", tasks.gene_by_gene_partition, cells, everything)))
            found = part["weight"].to_numpy()
            self._missing = bool(part["missing"][0].as_py())
        else:
            method = "reml"
        self.work = replace(self.work, samples=found)
        self.facts |= {"array_method": method, "samples": [round(float(w), 6) for w in _five(found)]}

    def _reml(self, name: str, cells: tasks.WeightedWork, *, stop_at_missing: bool) -> Floats | None:
        """Steps until the weights stand still; None where values are missing and that calls for the other method."""
        basis = self.work.model.basis
        n = basis.n
        found, change = np.ones(n), np.inf
        for step in range(array_weights.MOST_STEPS):
            parts = self._run(f"{name} {step + 1}", tasks.reml_partition, replace(cells, samples=found), self.stripes)
            total = np.zeros(0)
            for part in parts:
                sums = part["sums"].to_numpy()
                total = sums if total.size == 0 else _added(total, sums)
            size = math.isqrt(total.size - 2 - n)
            sums = array_weights.RemlSums(
                int(total[0]), int(total[1]), total[2 : 2 + n], total[2 + n :].reshape(size, size)
            )
            self._missing = sums.n_missing > 0
            if self._missing and stop_at_missing:
                return None
            taken = array_weights.reml_step(sums, basis, found, step, change)
            found, change = taken.weights, taken.change
            if taken.note:
                self.warnings.append(taken.note)
            if taken.done:
                break
        if sums.n_missing:
            note = f"{sums.n_missing} features with missing values took no part in the weights of samples"
            self.warnings += [note] if note not in self.warnings else []
        self.facts["steps"] = step + 1
        return found


def numbered(stripes: list[Partition], name: str, first: int) -> list[Partition]:
    """The stripes as the partitions of one round."""
    return [
        Partition(first + i, stripe.feature_start, stripe.feature_stop, {"round": name})
        for i, stripe in enumerate(stripes)
    ]


def joined(parts: Any) -> dict[str, NDArray[Any]]:
    """The columns of all parts, features in order."""
    table = pa.concat_tables(list(parts))
    return {name: table[name].to_numpy() for name in table.column_names}


def _added(one: Floats, other: Floats) -> Floats:
    """Sums of two stripes; a stripe without a usable feature has no information."""
    if one.size < other.size:
        one, other = other, one
    found = one.copy()
    found[: other.size] += other
    return found


def _five(values: Floats) -> Floats:
    """Smallest, quartiles and largest."""
    found: Floats = np.quantile(values, [0, 0.25, 0.5, 0.75, 1])
    return found


def _outline(line: vooms.VoomLine, points: int = 60) -> dict[str, list[float]]:
    """The line at evenly spread places, for the page."""
    x = np.linspace(line.x[0], line.x[-1], points if line.x.size > 1 else 1)
    return {"x": [round(float(v), 6) for v in x], "y": [round(float(v), 6) for v in line(x)]}
