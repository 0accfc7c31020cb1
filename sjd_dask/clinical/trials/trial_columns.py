"""The columns of the tables that a trial leaves: type and meaning."""

from __future__ import annotations

from sjd_dask.clinical.trials.design_columns import TABLES as DESIGN

Columns = dict[str, tuple[str, str]]

_STRATUM: Columns = {
    "by": ("string", "column of the strata"),
    "level": ("string", "stratum; `all` is everyone, `unknown` those without a value"),
}

#: Table -> column -> (type, text). Names in capitals stand for those of the protocol.
TABLES: dict[str, Columns] = {
    "eligibility": {
        "person_id": ("string", "who; also sample_id, visit and date where the sheet has them"),
        "eligible": ("string", "yes, no, or undetermined: what isn't recorded decides"),
        "first_failure": ("string", "the first criterion failed, in the protocol's order; else empty"),
        "failures": ("string", "every criterion failed; the screen-fail reasons"),
        "undetermined_by": ("string", "of the undetermined: each unknown criterion with what is missing for it"),
        "criterion_NAME": ("string", "pass, fail or unknown; an exclusion is passed by those it doesn't hold for"),
    },
    "criteria": {
        "criterion": ("string", "its name"),
        "kind": ("string", "include or exclude"),
        "when": ("string", "its query"),
        "screened": ("integer", "persons"),
        "passed": ("integer", "of these, taken alone"),
        "failed": ("integer", "taken alone"),
        "unknown": ("integer", "taken alone"),
        "entered": ("integer", "persons who failed no criterion before"),
        "failed_here": ("integer", "of these"),
        "left": ("integer", "of these; an unknown criterion leaves a person in"),
        "left_certain": ("integer", "of these, all criteria so far known to be met"),
        "failed_only_here": ("integer", "persons who fail this criterion and no other"),
    },
    "to_record": {
        "item": ("string", "what isn't recorded: an item of a score, or the column that a criterion names"),
        "needed_for": ("string", "columns of the criteria that need it"),
        "undetermined": ("integer", "undetermined persons without it, on whom it bears"),
        "alone": ("integer", "of these, persons for whom nothing else is missing"),
    },
    "feasibility": {
        **_STRATUM,
        "screened": ("integer", "persons"),
        "eligible": ("integer", "of these, yes"),
        "undetermined": ("integer", "of these"),
        "not_eligible": ("integer", "of these, no"),
        "share_of_screened": ("number", "of the group among all screened"),
        "share_of_eligible": ("number", "of the group among all eligible"),
        "eligible_share": ("number", "eligible among the decided of the group"),
        "eligible_share_low": ("number", "lower end of its 95 % interval (Wilson)"),
        "eligible_share_high": ("number", "upper end"),
        "eligible_share_least": ("number", "among all of the group, were no undetermined one eligible"),
        "eligible_share_most": ("number", "were all undetermined ones eligible"),
        "to_screen": ("integer", "with `needed`: persons of all groups to screen for so many eligible of this one"),
        "to_screen_low": ("integer", "at the upper end of the 95 % interval of the share"),
        "to_screen_high": ("integer", "at the lower end"),
    },
    **{f"design_{name}": columns for name, columns in DESIGN.items()},
    "randomisation": {
        "COLUMN": ("string", "a column for each column of the strata"),
        "stratum": ("string", "COLUMN=LEVEL, joined by |"),
        "sequence": ("integer", "place on the stratum's list, from 1"),
        "number": ("string", "stratum and place: what is given out"),
        "block": ("integer", "from 1 in each stratum"),
        "block_size": ("integer", "places in the block"),
        "arm": ("string", "the allocation"),
    },
    "randomisation_balance": {
        "stratum": ("string", "as in randomisation"),
        "places": ("integer", "on its list"),
        "blocks": ("integer", "on its list"),
        "ARM": ("integer", "places of each arm, a column an arm"),
        "largest_imbalance": ("number", "between two arms at any moment, in persons of an arm of allocation 1"),
    },
    "reanalysis": {
        **_STRATUM,
        "arm": ("string", "an arm but the control"),
        "control": ("string", "the arm it is compared with"),
        "n_arm": ("integer", "persons analysed"),
        "n_control": ("integer", "persons analysed"),
        "mean_arm": ("number", "mean of the endpoint; of a binary one the share of responders"),
        "mean_control": ("number", "the same of the control"),
        "effect": ("number", "difference of means, or log odds ratio, adjusted; `all`: also for the strata"),
        "standard_error": ("number", "HC3; of a binary endpoint by the model"),
        "low": ("number", "lower end of the 95 % interval"),
        "high": ("number", "upper end"),
        "p_value": ("number", "two-sided; t, or normal for a binary endpoint"),
        "p_arms": ("number", "several arms: adjusted over those of the stratum (Holm, or in `sequence`)"),
        "odds_ratio": ("number", "binary: of the effect, with odds_ratio_low and odds_ratio_high"),
        "odds_ratio_low": ("number", "lower end of its interval"),
        "odds_ratio_high": ("number", "upper end"),
        "risk_difference": ("number", "binary: difference of shares, unadjusted"),
        "risk_difference_low": ("number", "lower end of its 95 % interval (Newcombe)"),
        "risk_difference_high": ("number", "upper end"),
        "reason": ("string", "why there is no effect, else empty"),
    },
    "reanalysis_interaction": {
        "by": ("string", "column of the strata"),
        "test": ("string", "Wald F with HC3, or likelihood ratio for a binary endpoint"),
        "statistic": ("number", "its value"),
        "df": ("integer", "degrees of freedom"),
        "df_residual": ("number", "of the F-test"),
        "p_value": ("number", "that the effects are equal in all strata compared"),
        "p_holm": ("number", "adjusted over the columns of strata (Holm)"),
        "levels": ("integer", "strata there are"),
        "left_out": ("string", "strata that the test leaves out"),
        "reason": ("string", "why there is no test, else empty"),
    },
    "reanalysis_counts": {
        **_STRATUM,
        "arm": ("string", "each arm, the control too"),
        "randomised": ("integer", "persons"),
        "analysed": ("integer", "of these"),
        "without_endpoint": ("integer", "of these"),
        "without_baseline": ("integer", "of these"),
    },
}  # fmt: skip


def columns_markdown() -> str:
    """The tables of columns as Markdown, for docs/trials.md."""
    parts = []
    for name, columns in TABLES.items():
        rows = [f"| `{column}` | {kind} | {text} |" for column, (kind, text) in columns.items()]
        parts.append("\n".join([f"### {name}.csv", "", "| column | type | what |", "|---|---|---|", *rows]))
    return "\n\n".join(parts) + "\n"
