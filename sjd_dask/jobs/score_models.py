"""What measures stand on beside the sheet: models that were fitted on a cohort, and the axes' reference cohort.

Both are made from the whole sheet before it is cut, so that no row's result hangs on how it was cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sjd_dask.clinical.measures import Measure
from sjd_dask.errors import SpecError
from sjd_dask.jobs.clinical_sheet import ClinicalSheet

if TYPE_CHECKING:
    from sjd_dask.clinical.sheet import Sheet

# Measures whose model can be fitted here, and what fits it.
FITS = {
    "nsst": ("sjd_dask.clinical.symptom_clusters", "fit_nsst"),
    "integrated": ("sjd_dask.clinical.integrated_clusters", "fit_integrated"),
}


@dataclass
class Prepared:
    """Options of the measures, and files to write once the scores are there.

    Attributes
    ----------
    options : dict
    files : dict
        File -> plain data.
    notes, warnings : list of str
        What a fit found, and what speaks against it.
    """

    options: dict[str, Any]
    files: dict[Path, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def prepare(
    opened: ClinicalSheet,
    sheet: Sheet,
    chosen: Sequence[Measure],
    options: dict[str, Any],
    name: str,
    reference: Path | str | None,
    save_reference: Path | str | None,
    model: Path | str | None,
    fit: Path | str | None,
    *,
    partitioned: bool,
) -> Prepared:
    """Fit or read what the measures want beside the sheet.

    Raises
    ------
    SpecError
        A file for a measure that isn't asked for, both a model and a fit, one file for two models, or no folder.
    """
    ready = Prepared(dict(options))
    wanting = [one for one in chosen if one.needs_model]
    if model is not None and fit is not None:
        raise SpecError("--model and --fit don't go together: a fit makes the model that is then used")
    if (model is not None or fit is not None) and len(wanting) != 1:
        asked = " and ".join(one.name for one in wanting)
        raise SpecError(
            f"one model can't serve both {asked}: score them one after the other"
            if wanting
            else f"--model and --fit belong to {' and '.join(FITS)}, and none of them is asked for"
        )
    for one in (fit, save_reference):
        if one is not None and not Path(one).absolute().parent.is_dir():
            raise SpecError(f"there is no folder {Path(one).absolute().parent} to write {Path(one).name} into")
    if model is not None:
        ready.options["model"] = str(Path(model).absolute())
    if fit is not None:
        _fit(ready, opened, sheet, wanting[0], name, Path(fit), {option for one in chosen for option in one.options})
    _reference(ready, opened, sheet, chosen, name, reference, save_reference, partitioned)
    return ready


def _fit(
    ready: Prepared,
    opened: ClinicalSheet,
    sheet: Sheet,
    measure: Measure,
    name: str,
    file: Path,
    taken: set[str],
) -> None:
    if measure.name not in FITS:
        raise SpecError(f"--fit makes models of {' and '.join(FITS)}; {measure.name} takes its own otherwise")
    where, function = FITS[measure.name]
    own: dict[str, Any] = {"baseline": ready.options.get("baseline")}
    if "columns" in ready.options:
        own["columns"] = ready.options.pop("columns")
    if "baseline" not in taken:
        ready.options.pop("baseline", None)
    fitted = getattr(import_module(where), function)(sheet, name=name, definitions=opened.definitions, **own)
    ready.options["model"] = fitted
    ready.files[file] = fitted
    facts = fitted["fit"]
    groups = ", ".join(f"{one['group']} {one['persons']:,}" for one in facts["groups"])
    ready.notes.append(
        f"{measure.name}: groups of {facts['persons']:,} persons: {groups}; those of two halves agree with "
        f"adjusted Rand index {facts['split_half']:.2f}"
    )
    ready.warnings += [f"{measure.name}: {text}" for text in facts["warnings"]]


def _reference(
    ready: Prepared,
    opened: ClinicalSheet,
    sheet: Sheet,
    chosen: Sequence[Measure],
    name: str,
    reference: Path | str | None,
    save_reference: Path | str | None,
    partitioned: bool,
) -> None:
    if not any("reference" in one.options for one in chosen):
        if reference is not None or save_reference is not None:
            raise SpecError("--reference and --save-reference belong to the measure axes, which is not asked for")
        return
    from sjd_dask.clinical.axis_reference import THIS_SHEET, AxisReference, as_reference

    if reference is not None:
        cohort = as_reference(reference)
    elif save_reference is not None or partitioned:
        own = {key: ready.options[key] for key in ("domains", "laboratory") if key in ready.options}
        cohort = AxisReference.fit(
            sheet, THIS_SHEET if save_reference is None else name, definitions=opened.definitions, **own
        )
    else:
        return  # the measure takes the sheet itself
    ready.options["reference"] = cohort
    if save_reference is not None:
        ready.files[Path(save_reference)] = cohort.to_dict()
