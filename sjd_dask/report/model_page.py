"""The card of a model as a page: on whom it was trained, how good it is on persons unseen, and what it is not for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sjd_dask.report import facts
from sjd_dask.report.format import count, number, shorten, spec_text
from sjd_dask.report.layer_facts import Rows
from sjd_dask.report.page import TEMPLATES, Picture, environment, picture_uri

METRICS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "auc": "area under the curve",
    "brier": "Brier score",
    "log_loss": "log loss",
    "calibration_error": "calibration error",
    "coverage": "coverage of the sets",
    "set_size": "classes in a set",
    "called": "share called",
    "accuracy_of_called": "accuracy of the calls",
    "out_of_distribution": "share out of distribution",
}
BY_CLASS = {"recall": "recall", "precision": "precision", "auc": "area under the curve", "coverage": "coverage",
            "called": "share called"}  # fmt: skip
# Between 0 and 1, and better when larger: they can share an axis.
DRAWN = ("accuracy", "balanced_accuracy", "macro_f1", "auc", "accuracy_of_called", "called", "coverage")
OF = {"all": "all persons", "core": "core samples", "not core": "not core"}


def render_model(
    meta: Mapping[str, Any], symbols: Mapping[str, str] | None = None, state: Mapping[str, Any] | None = None
) -> str:
    """The page of one ``models/NAME``.

    Parameters
    ----------
    meta : mapping
        The result's facts; its ``card`` holds all that the page says of the model.
    symbols : mapping, optional
        Gene symbols of features.
    state : mapping, optional
        ``is_production``, ``promoted_by``, ``promoted_at``, ``promoted_why`` of the version.

    Returns
    -------
    str
        HTML that fetches nothing and runs nothing. User text is escaped. It names no sample and no person, and the
        card has no number of fewer than ``suppress_below`` persons.
    """
    card = meta["card"]
    reference = str(meta.get("reference") or "models")
    return (
        environment()
        .get_template("model.html.j2")
        .render(
            title=str(meta.get("title") or card.get("title") or reference),
            reference=reference,
            export_name=reference.split("@")[0].split("/")[-1],
            cohort_path=str((meta.get("cohort") or {}).get("path") or "COHORT"),
            style=(TEMPLATES / "style.css").read_text(encoding="utf-8"),
            warnings=[str(w) for w in meta.get("warnings") or []],
            below=card.get("suppress_below"),
            cards=_cards(card),
            production=_production(state),
            limits=[str(one) for one in card.get("limits") or []],
            metrics=_metrics(card),
            by_class=_by_class(card),
            good_pictures=_good_pictures(card),
            calibration=_calibration(card),
            sets=_sets(card),
            sure_pictures=_sure_pictures(card),
            subgroups=_subgroups(card),
            subgroup_pictures=_subgroup_pictures(card),
            panel=_panel(card, symbols or {}),
            panel_picture=_panel_picture(card, symbols or {}),
            sizes=_sizes(card),
            data=_data(card),
            what=_what(card),
            where=facts.on_what({**meta, "quantity": card.get("quantity") or meta.get("quantity")}),
            provenance=facts.provenance(meta),
            spec=spec_text(meta["spec"]) if meta.get("spec") else "",
        )
    )


def _of_all(card: Mapping[str, Any], metric: str, name: str = "") -> Mapping[str, Any] | None:
    rows = [m for m in card["metrics"] if m["of"] == "all" and m["metric"] == metric and m["class"] == name]
    return rows[0] if rows and rows[0]["value"] is not None else None


def _interval(record: Mapping[str, Any] | None, digits: int = 3) -> str:
    if record is None or record.get("value") is None:
        return "–"
    if record.get("low") is None:
        return number(record["value"], digits)
    return f"{number(record['value'], digits)} ({number(record['low'], digits)} to {number(record['high'], digits)})"


def _cards(card: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    data = card["data"]
    cards = [
        (count(len(card["classes"])), "classes", ", ".join(shorten(one, 20) for one in card["classes"][:6])),
        (count(data["n_persons"]), "persons", f"{count(data['n_samples'])} samples"),
        (count(card["panel"]["n_features"]), "features in the panel", ""),
    ]
    for metric, text in (("balanced_accuracy", "balanced accuracy"), ("brier", "Brier score"), ("called", "called")):
        record = _of_all(card, metric)
        if record is not None:
            between = f"{number(record['low'], 3)} to {number(record['high'], 3)}" if record["low"] is not None else ""
            cards.append((number(record["value"], 3), text, between))
    return cards


def _production(state: Mapping[str, Any] | None) -> str:
    if not state:
        return ""
    if not state.get("is_production"):
        return "This version is not in production."
    text = "This version is in production"
    if state.get("promoted_at"):
        text += f" since {state['promoted_at']}"
    if state.get("promoted_by"):
        text += f", promoted by {state['promoted_by']}"
    return f"{text}: {state['promoted_why']}" if state.get("promoted_why") else f"{text}."


def _metrics(card: Mapping[str, Any]) -> Rows:
    parts = [of for of in OF if any(m["of"] == of for m in card["metrics"])]
    table = {(m["of"], m["metric"]): m for m in card["metrics"] if not m["class"]}
    rows = [
        [text, *(_interval(table.get((of, metric))) for of in parts)]
        for metric, text in METRICS.items()
        if ("all", metric) in table
    ]
    persons = [
        "–" if (one := table.get((of, "accuracy"))) is None or one["n_persons"] is None else count(one["n_persons"])
        for of in parts
    ]
    rows.append(["persons", *persons])
    return Rows([("metric", False), *((OF[of], True) for of in parts)], rows, len(rows))


def _by_class(card: Mapping[str, Any]) -> Rows:
    persons = {one["class"]: one["n_persons"] for one in card["data"]["classes"]}
    shown = {
        key: text for key, text in BY_CLASS.items() if any(m["metric"] == key and m["class"] for m in card["metrics"])
    }
    rows = [
        [
            shorten(str(name), 40),
            "*" if persons.get(name) is None else count(persons[name]),
            *(_interval(_of_all(card, key, name)) for key in shown),
        ]
        for name in card["classes"]
    ]
    return Rows([("class", False), ("persons", True), *((text, True) for text in shown.values())], rows, len(rows))


def _calibration(card: Mapping[str, Any]) -> str:
    found = card.get("calibration") or {}
    if found.get("brier") is None:
        return ""
    return (
        f"Brier score {number(found['brier'], 3)} calibrated ({found['method']}), "
        f"{number(found['brier_uncalibrated'], 3)} uncalibrated: difference {number(found['difference'], 2)}, "
        f"standard error {number(found['standard_error'], 2)} over {count(found['n_persons'])} persons "
        f"({found['measured_in']}); smaller is better."
    )


def _sets(card: Mapping[str, Any]) -> list[str]:
    conformal, out = card["conformal"], card["out_of_distribution"]
    found = []
    if conformal.get("wanted") is not None and conformal.get("observed"):
        inside = _within(conformal["observed"], conformal["wanted"])
        found.append(
            f"Asked for: sets that hold the true class for {100 * conformal['wanted']:g} % of new persons. Held-out "
            f"persons: {_interval(conformal['observed'])}{inside}."
        )
    if conformal.get("accuracy_of_called"):
        found.append(
            f"A sample is called where its set holds one class alone: share called {_interval(conformal['called'])}, "
            f"of which right {_interval(conformal['accuracy_of_called'])}."
        )
    if out.get("wanted") is not None and out.get("observed"):
        found.append(
            f"Turned away as unlike the training's samples: {_interval(out['observed'])} of held-out persons; at most "
            f"{100 * out['wanted']:g} % was asked for."
        )
    return found


def _within(record: Mapping[str, Any], wanted: float) -> str:
    if record.get("low") is None:
        return ""
    if record["high"] < wanted:
        return ", which is less than asked for"
    return ", which is more than asked for" if record["low"] > wanted else ""


def _good_pictures(card: Mapping[str, Any]) -> list[Picture]:
    from sjd_dask.report import model_figures as figures

    rows = [(METRICS[name], record, "#0072b2") for name in DRAWN if (record := _of_all(card, name)) is not None]
    n = count(card["data"]["n_persons"])
    return [
        Picture(
            "half",
            picture_uri(figures.intervals(rows, "held-out persons")),
            f"Metrics of {n} held-out persons with 95 % intervals.",
            "Metrics of persons that nothing was fitted on, with 95 % intervals over persons.",
        ),
        Picture(
            "half",
            picture_uri(figures.confusion(card["confusion"], card["classes"])),
            f"Share of each of {len(card['classes'])} classes by the class of largest probability.",
            f"Of 100 persons of a class (row), how many are most probably of each. *: fewer than "
            f"{card['suppress_below']} persons, or hidden beside such a number.",
        ),
    ]


def _sure_pictures(card: Mapping[str, Any]) -> list[Picture]:
    from sjd_dask.report import model_figures as figures

    colors = figures.class_colors(card["classes"])
    pictures = []
    if any(one["mean_probability"] is not None for one in card["reliability"]):
        mirrored = f" The curve of {next(iter(colors))} is its mirror image." if len(colors) == 2 else ""
        pictures.append(
            Picture(
                "half",
                picture_uri(figures.reliability(card["reliability"], colors)),
                "Reliability of the probabilities, by class.",
                "Of persons of whom such a probability was said, how many are of the class; on the dashed line it "
                f"means what it says. Bars are 95 % intervals, larger dots more persons.{mirrored}",
            )
        )
    rows = [("all persons", record, "#333f4c")] if (record := _of_all(card, "coverage")) is not None else []
    for name in card["classes"]:
        found = [m for m in card["metrics"] if m["of"] == "all" and m["metric"] == "coverage" and m["class"] == name]
        rows += [(str(name), one, colors[name]) for one in found]
    if rows:
        pictures.append(
            Picture(
                "half",
                picture_uri(figures.intervals(rows, "coverage", card["conformal"].get("wanted"))),
                "Coverage of the sets for all persons and by class.",
                "How often the set of a held-out person's sample holds the true class. The dashed line is what was "
                "asked for, of all persons together.",
            )
        )
    return pictures


def _subgroups(card: Mapping[str, Any]) -> Rows | None:
    records = card.get("subgroups")
    if not records:
        return None
    metrics = list(dict.fromkeys(one["metric"] for one in records))
    table: dict[tuple[str, str], dict[str, Any]] = {}
    for one in records:
        table.setdefault((one["column"], one["level"]), {})[one["metric"]] = one
    rows = []
    for (column, level), found in table.items():
        persons = found[metrics[0]]["n_persons"]
        rows.append(
            [
                shorten(column, 30),
                shorten(level, 30),
                "*" if persons is None else count(persons),
                *(_interval(found.get(metric)) for metric in metrics),
            ]
        )
    titles = [(METRICS.get(metric, metric), True) for metric in metrics]
    return Rows([("column", False), ("group", False), ("persons", True), *titles], rows, len(rows))


def _subgroup_pictures(card: Mapping[str, Any]) -> list[Picture]:
    from sjd_dask.report import model_figures as figures

    records = [one for one in card.get("subgroups") or [] if one["value"] is not None]
    if not records:
        return []
    overall = _of_all(card, "accuracy")
    lines = {"accuracy": None if overall is None else overall["value"], "coverage": card["conformal"].get("wanted")}
    says = {"accuracy": "of all persons", "coverage": "that was asked for"}
    return [
        Picture(
            "half",
            picture_uri(figures.subgroups(records, metric, METRICS[metric], line)),
            f"{METRICS[metric]} by groups of persons.",
            f"{METRICS[metric].capitalize()} by groups of persons (how many); the dashed line is "
            f"the one {says[metric]}.",
        )
        for metric, line in lines.items()
        if any(one["metric"] == metric for one in records)
    ]


def _panel(card: Mapping[str, Any], symbols: Mapping[str, str]) -> Rows:
    records, classes = card["panel"]["features"], card["classes"]
    has_symbols = any(symbols.get(str(one["feature_id"])) for one in records)
    extra = [name for name in ("selection_frequency", "outer_frequency") if records and name in records[0]]
    titles = {"selection_frequency": "chosen in inner folds", "outer_frequency": "chosen in outer folds"}
    rows = []
    for one in records:
        feature = str(one["feature_id"])
        rows.append(
            [
                shorten(feature, 50),
                *([str(symbols.get(feature) or "")] if has_symbols else []),
                str(one.get("direction") or ""),
                # Nothing is not less than nothing.
                *(number(0.0 + (one.get(f"weight_{name}") or 0.0), 3) for name in classes),
                *(f"{100 * one[name]:.0f} %" if one.get(name) is not None else "–" for name in extra),
            ]
        )
    columns = [("feature", False), *([("gene", False)] if has_symbols else []), ("direction", False)]
    columns += [(f"weight, {shorten(str(name), 16)}", True) for name in classes]
    return Rows([*columns, *((titles[name], True) for name in extra)], rows, int(card["panel"]["n_features"]))


def _size(card: Mapping[str, Any], recipe: Mapping[str, Any]) -> str:
    """How large the panel may be, or which of the sizes tried was taken."""
    if recipe.get("panel_method") == "none":
        return f"all of the best {count(recipe.get('prefilter'))}"
    if recipe.get("panel_size") != "auto":
        return f"at most {count(recipe.get('panel_size'))}"
    taken = [one["size"] for one in (card.get("panel_sizes") or {}).get("tried", []) if one["chosen"]]
    return f"at most {count(taken[0])}, chosen by the inner folds" if taken else "size chosen by the inner folds"


def _sizes(card: Mapping[str, Any]) -> Rows | None:
    """The sizes of panel that were tried; None where the size was given."""
    found = card.get("panel_sizes") or {}
    if not found.get("tried"):
        return None
    outer = found.get("outer_folds") or {}
    rows = [
        [
            count(one["size"]) + (" (taken)" if one["chosen"] else ""),
            number(one["n_features"], 3),
            number(one["log_loss"], 4),
            number(one["difference"], 4),
            number(one["standard_error"], 4),
            count(outer.get(str(one["size"]), 0)),
        ]
        for one in found["tried"]
    ]
    titles = ("size", "features taken", "log loss", "above the smallest", "standard error", "outer folds that took it")
    return Rows([(title, True) for title in titles], rows, len(rows))


def _panel_picture(card: Mapping[str, Any], symbols: Mapping[str, str]) -> Picture | None:
    from sjd_dask.report import model_figures as figures

    records, classes = card["panel"]["features"], card["classes"]
    if not records or f"weight_{classes[0]}" not in records[0]:
        return None
    drawn = min(len(records), figures.MOST_FEATURES)
    part = f"The {drawn} features that weigh most" if drawn < len(records) else "The features of the panel"
    return Picture(
        "half",
        picture_uri(figures.panel(records, classes, symbols)),
        f"Weights of {drawn} features for each class.",
        f"{part}, by class: red speaks for the class, blue against it.",
    )


def _data(card: Mapping[str, Any]) -> Rows:
    rows = [
        [
            shorten(str(one["class"]), 40),
            *("*" if one[name] is None else count(one[name]) for name in ("n_persons", "n_samples")),
        ]
        for one in card["data"]["classes"]
    ]
    return Rows([("class", False), ("persons", True), ("samples", True)], rows, len(rows))


def _what(card: Mapping[str, Any]) -> facts.Pairs:
    recipe, folds, refit = card.get("recipe") or {}, card.get("folds") or {}, card.get("refit") or {}
    pairs: facts.Pairs = []
    if card.get("labels"):
        pairs.append(("Labels", str(card["labels"])))
    if recipe:
        pairs.append(("Model", str(recipe.get("model", "")).replace("_", " ")))
        pairs.append(
            (
                "Panel",
                f"{str(recipe.get('panel_method', '')).replace('_', ' ')}, {_size(card, recipe)}",
            )
        )
        pairs.append(("Calibration", str(recipe.get("calibration"))))
        pairs.append(("Missing features allowed", f"{100 * recipe.get('max_missing', 0):g} %"))
    if card.get("n_sentinels"):
        pairs.append(("Features beside the panel", f"{count(card['n_sentinels'])}, to see what is unlike the training"))
    if folds:
        times = f", {count(folds['repeats'])} times" if int(folds.get("repeats") or 1) > 1 else ""
        pairs.append(("Folds of persons", f"{folds.get('outer')} outer, {folds.get('inner')} inner{times}"))
    if refit:
        made = [name for name, done in refit.items() if done]
        pairs.append(("Made again in each fold", ", ".join(made) or "nothing"))
    platform = card.get("platform") or {}
    for key, text in (
        ("assay", "Platform: assay"),
        ("quantity", "Platform: quantity"),
        ("n_features", "Platform: features"),
    ):
        if platform.get(key) is not None:
            value = platform[key]
            pairs.append((text, count(value) if isinstance(value, int) else str(value)))
    if card.get("threshold") is not None:
        pairs.append(("Probability from which a class is in a set", number(card["threshold"], 4)))
    if card.get("classifier_hash"):
        pairs.append(("Classifier", str(card["classifier_hash"])))
    return pairs
