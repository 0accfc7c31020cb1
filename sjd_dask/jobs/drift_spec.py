"""The keys of the watch of drift, `drift:` in the spec of a night."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator

PSI = "Population stability index of one variable."
KS = "Kolmogorov-Smirnov statistic of one variable."
FEATURES = "Share of the panel's features that reach `psi`, `ks` or `missing`."
STATUS = "Rise of the share of samples that are abstained, out of distribution, or of missing data."
MISSING = "Rise of the share of missing values of one feature."


class DriftLevels(BaseModel):
    """How far new samples may lie from the model's reference."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    psi: float = Field(gt=0, description=PSI)
    ks: float = Field(gt=0, le=1, description=KS)
    features: float = Field(gt=0, le=1, description=FEATURES)
    status: float = Field(gt=0, le=1, description=STATUS)
    missing: float = Field(gt=0, le=1, description=MISSING)


class WarnLevels(DriftLevels):
    """Reached: the night is published with a warning."""

    psi: float = Field(0.1, gt=0, description=PSI)
    ks: float = Field(0.15, gt=0, le=1, description=KS)
    features: float = Field(0.1, gt=0, le=1, description=FEATURES)
    status: float = Field(0.1, gt=0, le=1, description=STATUS)
    missing: float = Field(0.05, gt=0, le=1, description=MISSING)


class HoldLevels(DriftLevels):
    """Reached: nothing is published, unless it is accepted."""

    psi: float = Field(0.25, gt=0, description=PSI)
    ks: float = Field(0.3, gt=0, le=1, description=KS)
    features: float = Field(0.3, gt=0, le=1, description=FEATURES)
    status: float = Field(0.3, gt=0, le=1, description=STATUS)
    missing: float = Field(0.25, gt=0, le=1, description=MISSING)


class DriftWatch(BaseModel):
    """How new samples are compared with the model's reference: what warns, and what holds a night back."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    warn: WarnLevels = Field(default_factory=WarnLevels, description="Reached: published with a warning.")
    hold: HoldLevels = Field(
        default_factory=HoldLevels, description="Reached: nothing is published (exit 3) unless `accept` is true."
    )
    accept: bool = Field(False, description="Publish a night that would be held back: --set drift.accept=true.")
    alpha: float = Field(
        0.01,
        gt=0,
        lt=1,
        description="Chance that a night without drift has any variable at a level. What chance can do follows from "
        "the numbers of persons, and is shared out over all that is looked at.",
    )
    min_samples: int = Field(
        20, ge=10, description="Fewer new samples aren't judged alone, but together with those of nights before."
    )
    window: int = Field(
        200, ge=10, description="The newest samples, looked at together too, to see what moves slowly; that only warns."
    )
    batch: str | None = Field(
        "batch", description="Sample column of the batch, each looked at by itself; a sheet without it is one batch."
    )

    @model_validator(mode="after")
    def _consistent(self) -> DriftWatch:
        for name in DriftLevels.model_fields:
            warn, hold = getattr(self.warn, name), getattr(self.hold, name)
            if hold < warn:
                raise ValueError(
                    f"`hold.{name}: {hold}` lies below `warn.{name}: {warn}`: what holds a night back warns too"
                )
        if self.window < self.min_samples:
            raise ValueError(f"`window: {self.window}` is less than `min_samples: {self.min_samples}`")
        return self
