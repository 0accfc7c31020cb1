"""Clinical scores of Sjögren disease, with what is missing kept missing.

``score(frame, "essdai")`` scores a table of visits; ``Sheet.read`` checks and converts one; ``MEASURES`` lists what can
be computed. The public names are loaded when first used.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

_PUBLIC = {
    "Sheet": "sheet",
    "MEASURES": "measures",
    "score": "measures",
    "load_definition": "definitions",
    "definition_names": "definitions",
    "essdai": "essdai",
    "clinessdai": "essdai",
    "esspri": "esspri",
    "laboratory": "laboratory",
    "sledai": "sledai",
    "acr_eular": "acr_eular",
    "glands": "glands",
    "gland_answers": "glands",
    "sgus": "sgus",
    "star": "response",
    "cress": "response",
    "change": "response",
    "axes": "axes",
    "axis_positions": "axes",
    "axes_change": "axis_change",
    "AxisReference": "axis_reference",
    "axis_table": "axis_table",
    "endpoint_table": "endpoints",
    "endpoints_for": "endpoints",
    "trial_evidence": "endpoints",
    "trial_template": "endpoints",
    "cross_table": "cross_tables",
    "axes_by_group": "cross_tables",
    "nsst": "symptom_clusters",
    "fit_nsst": "symptom_clusters",
    "integrated": "integrated_clusters",
    "fit_integrated": "integrated_clusters",
    "modules": "module_scores",
    "fit_modules": "module_scores",
    "score_modules": "module_scores",
    "cluster_stability": "cluster_stability",
    "group_markers": "group_markers",
    "marker_sets": "group_markers",
    "read_model": "multinomial_file",
    "write_model": "multinomial_file",
    "Rule": "trials.eligibility",
    "eligibility": "trials.eligibility",
    "feasibility": "trials.feasibility",
    "randomisation_lists": "trials.randomise",
    "reanalyse": "trials.reanalyse",
}

__all__ = list(_PUBLIC)


class _Room(ModuleType):
    """A package whose public functions win over the modules of the same name.

    Importing ``clinical/essdai.py`` binds the module as ``clinical.essdai``; people who type that mean the function.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _PUBLIC and isinstance(value, ModuleType):
            return
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Room


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
