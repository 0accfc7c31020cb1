"""The items behind the clinical columns, one row a patient's visit: domains, eyes, glands, laboratory, questionnaires.

They agree with the columns of the sample sheet: domain levels add up to its ESSDAI, the worse eye is its Schirmer, the
scales are its ESSPRI. What else is here is declared, and says nothing about real classes. Holes are part of it: a
domain nobody asked about, a biopsy that was never taken, an ultrasound at some visits only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib.resources import files
from typing import Any, Final

import numpy as np
import pandas as pd
import yaml

from sjd_dask import names
from sjd_dask.simulate.clinic import clinical_columns
from sjd_dask.simulate.keys import Stream
from sjd_dask.simulate.people import People

Floats = np.ndarray
Draw = Callable[[str], np.random.Generator]

# How readily a domain takes part of the total, by class (C1, C2, C3, C4); one that is not named: 0.1.
DOMAIN_SHARE: Final = {
    "articular": (0.45, 0.5, 0.4, 0.45),
    "glandular": (0.3, 0.2, 0.45, 0.3),
    "haematological": (0.4, 0.15, 0.35, 0.45),
    "lymphadenopathy": (0.12, 0.05, 0.25, 0.12),
    "cutaneous": (0.12, 0.05, 0.15, 0.3),
    "constitutional": (0.15, 0.1, 0.12, 0.3),
    "pulmonary": (0.12, 0.08, 0.1, 0.15),
    "peripheral_nervous_system": (0.1, 0.08, 0.08, 0.15),
}
RARE_DOMAIN: Final = 0.05
# Share of visits at which a group of items was not recorded, at random.
UNRECORDED: Final = {
    "domain": 0.03, "esspri": 0.02, "hads": 0.12, "pain_features": 0.15, "schirmer": 0.06, "eye_staining": 0.25,
    "saliva": 0.08, "ultrasound": 0.4, "laboratory": 0.05, "complement": 0.12, "rf": 0.15, "entry": 0.05,
    "exclusion": 0.05, "biopsy": 0.3,
}  # fmt: skip
ENTRY: Final = ("dry_eyes_daily", "gritty_eyes", "tear_substitutes", "dry_mouth_daily", "liquids_to_swallow")
EXCLUSIONS: Final = (
    "head_neck_radiation", "hepatitis_c_active", "aids", "sarcoidosis", "amyloidosis", "graft_versus_host",
    "igg4_related",
)  # fmt: skip
GLANDS: Final = ("parotid_right", "parotid_left", "submandibular_right", "submandibular_left")


def clinical_items(people: People, seed: int, *, complete: bool = False) -> pd.DataFrame:
    """The clinical sheet of the patients.

    Parameters
    ----------
    people : People
    seed : int
    complete : bool
        Without the holes: the same values, and none missing.

    Returns
    -------
    DataFrame
        One row a sample of a patient, index ``sample_id``; the columns of the clinical sheet in their canonical units
        (`sjd schema clinical-sheet`). Flags are 1, 0 or missing.
    """

    def draws(purpose: str) -> np.random.Generator:
        return Stream(seed, f"clinic_items/{purpose}").at()

    known = clinical_columns(people, seed)
    columns: dict[str, Any] = {
        names.PERSON_ID: np.array([f"P{i + 1:06d}" for i in people.person], dtype=object),
        names.VISIT: people.visit,
        names.DATE: np.datetime_as_string(people.date, unit="D").astype(object),
        "age": np.round(people.age, 1),
        "sex": np.where(people.is_female, "F", "M").astype(object),
    }
    groups = [
        ("domain", _domain_levels(people, known, draws)),
        ("esspri", {scale: known[f"esspri_{scale}"] for scale in ("dryness", "fatigue", "pain")}),
        *_questionnaires(people, known, draws),
        *_eyes(known, draws),
        *_glands(people, known, draws),
    ]
    groups += _laboratory(people, known, groups[0][1], draws)
    groups += _entry_and_exclusion(known, draws)
    hole = (lambda group, values: values) if complete else _holes(people, draws)
    for group, items in groups:
        columns.update(hole(group, {name: values + 0.0 for name, values in items.items()}))  # no -0
    index = pd.Index(people.sample_ids, name=names.SAMPLE_ID)
    frame = pd.DataFrame(columns, index=index)
    return frame[people.is_patient]


@lru_cache(maxsize=1)
def _domains() -> dict[str, tuple[int, tuple[int, ...]]]:
    """Weight and levels of each ESSDAI domain: read from the shipped definition, as the scores do."""
    path = files("sjd_dask") / "clinical" / "definitions" / "essdai.yaml"
    table = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {name: (int(one["weight"]), tuple(map(int, one["levels"]))) for name, one in table["items"].items()}


def _domain_levels(people: People, known: dict[str, Floats], draws: Draw) -> dict[str, Floats]:
    """Levels whose weighted sum is the ESSDAI of the sample sheet, exactly."""
    domains = _domains()
    left = np.nan_to_num(known["essdai"]).astype(np.int64)
    n = len(left)
    klass = np.maximum(people.klass, 0)
    found = {name: np.zeros(n, dtype=np.int64) for name in domains}
    # What serum and blood say of a class comes first, as far as the total goes.
    weight, _ = domains["biological"]
    serum = np.where(known["igg"] > 20, 2, np.where(known["igg"] > 16, 1, 0))
    found["biological"] = np.minimum(serum, left // weight)
    left = left - weight * found["biological"]
    order = sorted((one for one in domains if one != "biological"), key=lambda one: -domains[one][0])
    for name in order:
        weight, levels = domains[name]
        share = np.array(DOMAIN_SHARE.get(name, (RARE_DOMAIN,) * 4))[klass]
        taken = draws(f"domain/{name}").random(n) < share
        wish = draws(f"level/{name}").integers(1, len(levels), n)
        level = np.array(levels)[wish]
        fits = taken & (weight * level <= left)
        found[name] = np.where(fits, level, 0)
        left = left - weight * found[name]
    # The rest goes to whatever still has room, the common domains first.
    filling = ("articular", "glandular", "haematological", "lymphadenopathy", "cutaneous", *order, "biological")
    left = _fill(found, left, domains, filling)
    # A rest of 1 that the biological domain has no level for: one level less of it, and the rest is an even 2.
    stranded = (left == 1) & (found["biological"] > 0)
    found["biological"] = found["biological"] - stranded
    left = _fill(found, left + domains["biological"][0] * stranded, domains, filling)
    # What is left still: a level less of a common domain, and its points with the rest to one of odd weight.
    odd = sorted(filling, key=lambda one: (domains[one][0] % 2 == 0, domains[one][0]))
    for name in filling[:3]:
        short = (left > 0) & (found[name] > 0)
        found[name] = found[name] - short
        others = [one for one in odd if one not in (name, "biological")]
        left = _fill(found, left + domains[name][0] * short, domains, others)
    return {name: values.astype(np.float64) for name, values in found.items()}


def _fill(found: dict[str, Floats], left: Floats, domains: dict[str, Any], names: Sequence[str]) -> Floats:
    """Raises levels as far as the rest of the total goes; gives what is left of it."""
    for name in names:
        weight, levels = domains[name]
        for level in sorted(levels, reverse=True):
            more = weight * (level - found[name])
            fits = (more > 0) & (more <= left)
            found[name] = np.where(fits, level, found[name])
            left = np.where(fits, left - more, left)
    return left


def _questionnaires(people: People, known: dict[str, Floats], draws: Draw) -> list[tuple[str, dict[str, Floats]]]:
    """HADS and the features of amplification, near to fatigue and pain and apart from systemic activity."""
    n = len(people.klass)
    fatigue, pain = known["esspri_fatigue"], known["esspri_pain"]
    person = draws("mood/person").standard_normal(n)[people.person]

    def hads(name: str, mean: float) -> Floats:
        visit = draws(f"hads/{name}").standard_normal(n)
        return np.clip(np.round(mean + 0.6 * (fatigue - 5) + 2.6 * person + 1.4 * visit), 0, 21)

    anxiety = hads("anxiety", 7.5)
    strain = 0.35 * (pain + fatigue - 10) + 0.8 * person

    def flag(name: str, shift: float) -> Floats:
        noise = draws(f"feature/{name}").standard_normal(n)[people.person]
        return (strain + noise > shift).astype(np.float64)

    return [
        ("hads", {"anxiety": anxiety, "depression": hads("depression", 5.5)}),
        (
            "pain_features",
            {
                "sleep_disturbance": flag("sleep", 0.6),
                "fibromyalgia": flag("fibromyalgia", 1.9),
                "widespread_pain": flag("pain", 1.4),
            },
        ),
    ]


def _eyes(known: dict[str, Floats], draws: Draw) -> list[tuple[str, dict[str, Floats]]]:
    worse = known["schirmer"]
    n = len(worse)
    other = np.minimum(35, np.round(worse + 4 * draws("eye/other").random(n)))
    is_right = draws("eye/side").random(n) < 0.5
    dry = np.clip(1.2 - worse / 12, 0, 1)
    stain = {}
    for name, top in (("oss", 12), ("van_bijsterveld", 9)):
        value = np.clip(np.round(top * (0.7 * dry + 0.12 * draws(f"eye/{name}").standard_normal(n))), 0, top)
        less = np.maximum(0, value - draws(f"eye/{name}/other").integers(0, 3, n))
        stain[f"{name}_right"] = np.where(is_right, value, less)
        stain[f"{name}_left"] = np.where(is_right, less, value)
    return [
        (
            "schirmer",
            {
                "schirmer_right": np.where(is_right, worse, other),
                "schirmer_left": np.where(is_right, other, worse),
            },
        ),
        ("eye_staining", stain),
    ]


def _glands(people: People, known: dict[str, Floats], draws: Draw) -> list[tuple[str, dict[str, Floats]]]:
    """Saliva, ultrasound and biopsy: glands that make less look worse, with much noise."""
    saliva = known["saliva"]
    n = len(saliva)
    damage = np.clip(1.1 - saliva / 0.35, 0, 1)
    person = draws("ultrasound/person").standard_normal(n)[people.person]
    sonar = {}
    for gland in GLANDS:
        noise = draws(f"ultrasound/{gland}").standard_normal(n)
        sonar[f"sgus_{gland}"] = np.clip(np.round(2.4 * damage + 0.6 * person + 0.35 * noise - 0.4), 0, 3)
    total = sum(sonar.values())
    hocevar = np.clip(np.round(48 * (total / 12 * 0.85 + 0.05 * draws("ultrasound/hocevar").random(n))), 0, 48)
    focus = np.nan_to_num(known["focus_score"])
    inflamed = (focus >= 0.5).astype(np.float64)
    return [
        ("saliva", {"saliva_unstimulated": saliva}),
        ("ultrasound", {**sonar, "sgus_hocevar": hocevar}),
        ("biopsy", {"focus_score": focus, "focal_lymphocytic_sialadenitis": inflamed}),
    ]


def _laboratory(
    people: People, known: dict[str, Floats], levels: dict[str, Floats], draws: Draw
) -> list[tuple[str, dict[str, Floats]]]:
    """Blood values that say of the haematological and biological domains what their levels say."""
    n = len(people.klass)
    biological, blood = levels["biological"], levels["haematological"]

    def spread(name: str, low: float, high: float) -> Floats:
        return low + (high - low) * draws(f"lab/{name}").random(n)

    # One cell line falls, by person; the others stay normal. Values of each level, 3 to 1, off its limits; then
    # normal ones.
    which = draws("lab/which").random(n)[people.person]
    lines = {
        "lymphocytes": ((0.2, 0.5), (0.2, 0.5), (0.51, 0.99), (1.05, 2.8), 0.0, 0.6),
        "neutrophils": ((0.2, 0.49), (0.51, 0.99), (1.01, 1.49), (1.6, 6.5), 0.6, 0.85),
        "platelets": ((20, 49), (51, 99), (101, 149), (155, 380), 0.85, 1.0),
    }
    counts = {}
    for name, (severe, moderate, mild, normal, begin, end) in lines.items():
        mine = (which >= begin) & (which < end)
        if name == "lymphocytes":
            mine &= blood < 3  # no count of lymphocytes is that severe
        if name == "neutrophils":
            mine |= (which < begin) & (blood == 3)
        low, high = (
            np.select([mine & (blood == 3), mine & (blood == 2), mine & (blood == 1)], [a, b, c], d)
            for a, b, c, d in zip(severe, moderate, mild, normal, strict=True)
        )
        counts[name] = np.round(low + (high - low) * draws(f"lab/{name}").random(n), 2)
    raised = draws("lab/why").random(n)[people.person]
    serum_alone = known["igg"] <= 16
    clonal = (biological == 1) & serum_alone & (raised < 0.4)
    cryo = (biological == 2) & serum_alone
    low_c4 = (biological == 1) & serum_alone & ~clonal
    rf = np.exp(2.2 + 1.6 * known["anti_ssa"] + 0.5 * draws("lab/rf").standard_normal(n)[people.person])
    rf = rf * np.exp(0.15 * draws("lab/rf/visit").standard_normal(n))
    return [
        (
            "laboratory",
            {
                "anti_ssa": known["anti_ssa"].astype(np.float64),
                "igg": known["igg"],
                "haemoglobin": np.round(spread("haemoglobin", 12.1, 15.2), 1),
                **counts,
                "cytopenia_autoimmune": (blood > 0).astype(np.float64),
                "clonal_component": clonal.astype(np.float64),
                "cryoglobulinaemia": cryo.astype(np.float64),
            },
        ),
        (
            "complement",
            {
                "c3": np.round(spread("c3", 0.95, 1.6), 2),
                "c4": np.round(np.where(low_c4, spread("c4/low", 0.04, 0.09), spread("c4", 0.14, 0.38)), 3),
                "c3_low": np.zeros(n),
                "c4_low": low_c4.astype(np.float64),
            },
        ),
        ("rf", {"rf": np.round(rf, 1)}),
    ]


def _entry_and_exclusion(known: dict[str, Floats], draws: Draw) -> list[tuple[str, dict[str, Floats]]]:
    dryness = np.nan_to_num(known["esspri_dryness"])
    entry = {name: (draws(f"entry/{name}").random(len(dryness)) < dryness / 9).astype(np.float64) for name in ENTRY}
    exclusion = {
        name: (draws(f"exclusion/{name}").random(len(dryness)) < 0.002).astype(np.float64) for name in EXCLUSIONS
    }
    return [("entry", entry), ("exclusion", exclusion)]


def _holes(people: People, draws: Draw) -> Callable[[str, dict[str, Floats]], dict[str, Floats]]:
    """Takes out what was not recorded: domains one by one, other items as the examination they belong to."""
    n = len(people.klass)

    def punch(group: str, items: dict[str, Floats]) -> dict[str, Floats]:
        share = UNRECORDED[group]
        if group == "domain":
            return {
                name: np.where(draws(f"hole/{name}").random(n) < share, np.nan, values)
                for name, values in items.items()
            }
        unrecorded = draws(f"hole/{group}").random(n)
        if group == "biopsy":  # taken once in a life, if at all
            unrecorded = np.where(people.visit > 1, 0.0, unrecorded)
        return {name: np.where(unrecorded < share, np.nan, values) for name, values in items.items()}

    return punch
