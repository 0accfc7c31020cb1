"""Facts as text for people; `--json` prints the facts themselves."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any


def table(rows: Sequence[Sequence[Any]], header: Sequence[str]) -> str:
    """Columns of equal width, two spaces apart; numbers to the right."""
    if not rows:
        return ""
    cells = [
        [f"{value:,}" if isinstance(value, int) else "" if value is None else str(value) for value in row]
        for row in rows
    ]
    widths = [max(len(line[i]) for line in [list(header), *cells]) for i in range(len(header))]
    numeric = [all(isinstance(row[i], int | None) for row in rows) for i in range(len(header))]

    def line(values: Sequence[str]) -> str:
        padded = (v.rjust(w) if right else v.ljust(w) for v, w, right in zip(values, widths, numeric, strict=True))
        return "  ".join(padded).rstrip()

    return "\n".join([line(list(header)), *(line(row) for row in cells)])


def megabytes(n: int | float) -> str:
    """Bytes in the unit that suits them."""
    size = float(n)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def info_text(facts: dict[str, Any]) -> str:
    """`sjd info`."""
    parts = [
        f"{facts['name']}: snapshot {facts['snapshot']}, {facts['n_samples']:,} samples known, data in {facts['data']}"
    ]
    assays = [
        [name, a["quantity"], a["dtype"], a["n_samples"], a["n_features"], a["n_segments"], megabytes(a["bytes"])]
        for name, a in facts["assays"].items()
    ]
    parts.append(
        table(assays, ["assay", "quantity", "dtype", "samples", "features", "segments", "on disk"]) or "no assay yet"
    )
    layers = [
        [
            y["ref"],
            y["source_assay"],
            y["steps"],
            y["n_samples"],
            y["n_features"],
            y["n_segments"],
            megabytes(y["bytes"]),
        ]
        for y in facts["layers"]
    ]
    if layers:
        parts.append(table(layers, ["layer", "from", "steps", "samples", "features", "segments", "on disk"]))
    if facts["models"]:
        parts.append(models_text(facts["models"]))
    results = [
        [r["ref"], r["n_rows"].get("table"), r["snapshot"], r["run"], " ".join(n for n in r["n_rows"] if n != "table")]
        for r in facts["results"]
    ]
    parts.append(table(results, ["result", "rows", "snapshot", "run", "companion tables"]) or "no result yet")
    return "\n\n".join(parts)


def log_text(entries: Sequence[dict[str, Any]]) -> str:
    """`sjd log`."""
    rows = [
        [e["snapshot"], e["time"], e["kind"], e["message"] + _taken_back(e["undone_by"]), e["who"]] for e in entries
    ]
    return table(rows, ["snapshot", "time", "kind", "what", "who"]) or "nothing has been published yet"


def models_text(models: Sequence[dict[str, Any]]) -> str:
    """`sjd models list`."""
    rows = [
        [
            m["ref"],
            "production" if m["is_production"] else "",
            m["promoted_at"],
            m["promoted_by"],
            m["promoted_why"],
            m["snapshot"],
            "needs retraining" if m["needs_retraining"] else "",
        ]
        for m in models
    ]
    return table(rows, ["model", "state", "since", "by", "why", "snapshot", "note"]) or "no model yet"


def model_text(facts: dict[str, Any]) -> str:
    """`sjd models show`."""
    short = {key: value for key, value in facts.items() if key not in ("meta", "promotions")}
    flat = {
        key: ", ".join(f"{k} {v}" for k, v in value.items())
        if isinstance(value, dict)
        else ", ".join(map(str, value))
        if isinstance(value, list)
        else value
        for key, value in short.items()
    }
    rows = [
        [f"{p['name']}@{p['version']}", p["action"], p["time"], p["who"], p["why"], p["from"], p["until"]]
        for p in facts["promotions"]
    ]
    history = table(rows, ["promoted", "action", "time", "by", "why", "snapshot", "until"])
    return "\n\n".join(part for part in (fields_text(flat), history) if part)


def rollback_text(done: dict[str, Any]) -> str:
    """`sjd rollback`."""
    undone = done["undone"]
    lines = [f"snapshot {done['snapshot']}: took back snapshot {undone['snapshot']} ({undone['kind']})"]
    for what, counts in (("left", done["retired"]), ("came back", done["restored"])):
        said = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items())
        lines += [f"{what}: {said}"] if said else []
    for what, refs in (("no longer there", done["refs"]), ("there again", done["restored_refs"])):
        lines += [f"{what}: {', '.join(refs)}"] if refs else []
    return "\n".join([*lines, *done["new_refs"]])


def _taken_back(by: int | None) -> str:
    return "" if by is None else f" [taken back in {by}]"


def runs_text(rows: Sequence[dict[str, Any]]) -> str:
    """`sjd runs`."""
    shown = [[r["run"], r["state"], r["job"], r["output"], r["attempt"], r["message"]] for r in rows]
    return table(shown, ["run", "state", "job", "output", "attempt", "message"]) or "no run yet"


def score_text(done: dict[str, Any]) -> str:
    """`sjd score`."""
    lines = list(done["files"])
    for name, facts in done["measures"].items():
        known = facts.get("determined")
        told = f"{done['n_rows']:,} rows" if known is None else f"{known:,} of {done['n_rows']:,} rows determined"
        lines.append(f"{name}: {told}")
        for column, counts in facts["states"].items():
            lines.append(f"  {column}: " + ", ".join(f"{value or 'none'} {count:,}" for value, count in counts.items()))
        lines += [f"  {count:,} row{'s' if count != 1 else ''}: {reason}" for reason, count in facts["reasons"].items()]
        if "other_reasons" in facts:
            lines.append(f"  and {facts['other_reasons']:,} other reasons")
        for what in facts.keys() - {"determined", "undetermined", "states", "reasons", "other_reasons"}:
            said = [
                f"{key.replace('_', ' ')} {_number(value)}" for key, value in facts[what].items() if value is not None
            ]
            lines.append(f"  {what}: {', '.join(said)}")
    return "\n".join(lines)


def _number(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def history_text(rows: Sequence[dict[str, Any]]) -> str:
    """`sjd history`."""
    shown = [
        [
            *(r[name] for name in ("visit", "date", "sample_id", "status", "call")),
            None if r["confidence"] is None else f"{r['confidence']:.3f}",
            r["reported"],
            r["model"],
            day(r["published_at"]),
            day(r["retired_at"]) or "today",
        ]
        for r in rows
    ]
    header = ["visit", "date", "sample", "status", "call", "confidence", "reported", "model", "since", "until"]
    return table([["" if value is None else str(value) for value in row] for row in shown], header)


def day(seconds: float | None) -> str:
    """A moment as a day, in UTC; "" where there is none."""
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).date().isoformat()


def fields_text(facts: dict[str, Any]) -> str:
    """One field a line."""
    return "\n".join(f"{key}: {value}" for key, value in facts.items() if value not in (None, "", [], {}))


def compact_text(done: Sequence[dict[str, Any]]) -> str:
    """`sjd compact`."""
    lines = []
    for item in done:
        if item["snapshot"] is None:
            lines.append(f"{item['assay']}: nothing to merge")
        else:
            lines.append(
                f"{item['assay']}: {item['n_before']} segments became {item['n_after']} ({item['n_rows']:,} rows), "
                f"snapshot {item['snapshot']}"
            )
    return "\n".join(lines) or "nothing to merge"


def gc_text(done: dict[str, Any]) -> str:
    """`sjd gc`."""
    verb = "would remove" if done["dry_run"] else "removed"
    lines = [f"{verb} {item['path']} ({item['kind']}, {megabytes(item['n_bytes'])})" for item in done["removed"]]
    lines += [f"kept {item}" for item in done["kept"]]
    return "\n".join([*lines, f"{verb} {len(done['removed'])} item(s), {megabytes(done['bytes'])}"])


def verify_text(found: dict[str, Any]) -> str:
    """`sjd verify`."""
    lines = [f"PROBLEM {problem}" for problem in found["problems"]]
    state = "no problem" if not lines else f"{len(lines)} problem(s)"
    return "\n".join(
        [
            *lines,
            f"{found['n_segments']} segments, {found['n_rows']:,} rows, {found['n_tables']} result tables, "
            f"{megabytes(found['n_bytes'])} hashed: {state}",
        ]
    )


def exchange_text(done: dict[str, Any]) -> str:
    """`sjd exchange`."""
    if not done["files"]:
        return f"{done['folder']}: {done['persons']:,} Phenopackets of {done['rows']:,} rows"
    made = f"{done['measurements']:,} measurements of {done['persons']:,} persons in {done['rows']:,} rows"
    return "\n".join([f"{done['files'][0]}: {made}", *done["files"][1:]])
