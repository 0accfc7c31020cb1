"""The persons and visits of a simulated cohort: sheet, cell fractions, classes and activities."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from sjd_dask import names
from sjd_dask.simulate.keys import GOLDEN, SILVER, Stream, spread
from sjd_dask.simulate.programmes import (
    CLASSES,
    HEALTHY,
    PATIENT,
    PERSON_ACTIVITY_SD,
    PROGRAMMES,
    VISIT_ACTIVITY_SD,
    class_activity,
    class_shares,
)

CELL_TYPES = ("CD4T", "CD8T", "Bcell", "NK", "Mono", "Neu")
REFERENCE_FRACTIONS = np.array([0.15, 0.09, 0.05, 0.05, 0.08, 0.58])
# Change of the log fraction in patients. It is the same in all classes: were it tied to a programme's activity, cells
# would stand in for the programme in a model that holds both, and planted effects would not be what it estimates.
CELL_SHIFT = np.array([-0.35, -0.12, 0.10, -0.20, 0.15, 0.10])
FIRST_DATE = np.datetime64("2020-01-06")


@dataclass(frozen=True)
class SampleOptions:
    """Shares that shape the sheet.

    Parameters
    ----------
    patient_share : float
        Share of persons with the disease.
    repeat_share : float
        Share of persons with two or three visits.
    n_batches : int
        Laboratory batches, drawn for each sample.
    female_share : float
        Share of women, the same in patients and healthy volunteers.
    remission : float
        Chance that a patient of C1, C3 or C4 is found in C2, close to healthy, at a later visit.
    """

    patient_share: float = 0.5
    repeat_share: float = 0.2
    n_batches: int = 4
    female_share: float = 0.9
    remission: float = 0.0

    def __post_init__(self) -> None:
        for name in ("patient_share", "repeat_share", "female_share", "remission"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ValueError(f"{name} is {value}: a share lies between 0 and 1")
        if self.n_batches < 1:
            raise ValueError(f"n_batches is {self.n_batches}: at least one batch is needed")


@dataclass(frozen=True)
class People:
    """What the assays need to know of each sample; all arrays have one entry a sample."""

    sample_ids: np.ndarray
    person: np.ndarray  # int64: number of the person
    repeated: np.ndarray  # bool: the person is planned for more than one visit
    visit: np.ndarray
    date: np.ndarray
    is_patient: np.ndarray
    klass: np.ndarray  # -1 healthy, else index into CLASSES, at this visit
    is_female: np.ndarray
    age: np.ndarray  # years
    batch: np.ndarray  # int
    fractions: np.ndarray  # (n, 6), rows sum to one
    activity: np.ndarray  # (n, 4), columns as PROGRAMMES
    options: SampleOptions = field(repr=False)


def make_people(n_samples: int, seed: int, options: SampleOptions) -> People:
    """Draw persons in order until their visits fill the samples.

    The first samples are the same for every ``n_samples``: each column has a stream of its own, read in order.
    """

    def draws(purpose: str) -> np.random.Generator:
        return Stream(seed, f"people/{purpose}").at()

    # Persons: never more than samples.
    person_all = np.arange(n_samples)
    repeated_all = draws("repeated").random(n_samples) < options.repeat_share
    visits_all = np.where(repeated_all, 2 + (draws("visits").random(n_samples) < 0.4), 1)
    is_patient_all = spread(person_all, seed, "people/disease", GOLDEN) < options.patient_share
    nth_patient = np.cumsum(is_patient_all) - 1
    place = spread(np.maximum(nth_patient, 0), seed, "people/class", SILVER)
    klass_all = np.minimum(np.searchsorted(np.cumsum(class_shares()), place, side="right"), len(CLASSES) - 1)
    klass_all = np.where(is_patient_all, klass_all, -1)
    is_female_all = draws("sex").random(n_samples) < options.female_share
    age_all = np.clip(54 + 13 * draws("age").standard_normal(n_samples), 18, 88)
    start_all = (draws("start").random(n_samples) * 3 * 365).astype(np.int64)

    # Visits.
    person = np.repeat(person_all, visits_all)[:n_samples]
    first = np.searchsorted(person, person)
    visit = np.arange(n_samples) - first + 1
    gap = 180 + (draws("gap").random(n_samples) * 220).astype(np.int64)
    elapsed = np.cumsum(np.where(visit > 1, gap, 0))
    elapsed = elapsed - elapsed[first]
    klass = klass_all[person]
    remits = (visit > 1) & (klass >= 0) & (draws("remission").random(n_samples) < options.remission)
    klass = np.where(remits, CLASSES.index("C2"), klass)

    n_programmes = len(PROGRAMMES)
    mean = np.where(klass[:, None] >= 0, class_activity()[klass], 0.0)
    person_part = PERSON_ACTIVITY_SD * draws("activity/person").standard_normal((n_samples, n_programmes))
    visit_part = VISIT_ACTIVITY_SD * draws("activity/visit").standard_normal((n_samples, n_programmes))
    activity = mean + person_part[person] + visit_part

    age = age_all[person] + elapsed / 365.25
    log_fraction = np.log(REFERENCE_FRACTIONS) + 0.22 * draws("cells/person").standard_normal((n_samples, 6))[person]
    log_fraction = log_fraction + 0.08 * draws("cells/visit").standard_normal((n_samples, 6))
    log_fraction += np.where(is_patient_all[person][:, None], CELL_SHIFT, 0.0)
    log_fraction[:, 1] -= 0.008 * (age - 54)  # CD8 cells wane with age
    fractions = np.exp(log_fraction)
    fractions /= fractions.sum(axis=1, keepdims=True)

    batch = (draws("batch").random(n_samples) * options.n_batches).astype(np.int64)

    return People(
        sample_ids=np.array([f"S{i + 1:06d}" for i in range(n_samples)], dtype=object),
        person=person,
        repeated=repeated_all[person],
        visit=visit,
        date=FIRST_DATE + start_all[person] + elapsed,
        is_patient=is_patient_all[person],
        klass=klass,
        is_female=is_female_all[person],
        age=age,
        batch=batch,
        fractions=fractions,
        activity=activity,
        options=options,
    )


def sheet(people: People, seed: int) -> pd.DataFrame:
    """The sample sheet: one row a sample, index ``sample_id``; age in years, fractions between 0 and 1.

    ``true_class`` is the planted class at the visit, and ``healthy`` for volunteers.
    """
    from sjd_dask.simulate.clinic import clinical_columns

    class_names = np.array([*CLASSES, HEALTHY], dtype=object)
    frame = pd.DataFrame(
        {
            names.PERSON_ID: [f"P{i + 1:06d}" for i in people.person],
            names.VISIT: people.visit,
            names.DATE: np.datetime_as_string(people.date, unit="D").astype(object),
            "disease": np.where(people.is_patient, PATIENT, HEALTHY).astype(object),
            "sex": np.where(people.is_female, "F", "M").astype(object),
            "age": np.round(people.age, 1),
            "batch": [f"B{i + 1:02d}" for i in people.batch],
        },
        index=pd.Index(people.sample_ids, name=names.SAMPLE_ID),
    )
    for i, cell in enumerate(CELL_TYPES):
        frame[cell] = people.fractions[:, i]
    for name, column in clinical_columns(people, seed).items():
        frame[name] = column
    frame["true_class"] = class_names[people.klass]
    return frame
