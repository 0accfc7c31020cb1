"""A year of nights, told twice: once undisturbed, once with SIGKILL at seeded moments. Both must end in the same state.

    python benchmarks/year.py OUTPUT [--nights 365] [--kills 100] [--seed 1]

Arrivals, second visits, corrections, sheets that come late, files that can't be read, files that come twice, two
promotions, a platform that drifts, one night taken back and taken in again, withdrawals. Afterwards: the same rows,
sample columns, classes, reports, changes and calls; no night was ever seen by half; every change has its reason; who
withdrew is found nowhere in the cohort and its inbox.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import night_scene as scene
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from night_lives import Life

# People who come during the year; those before are the model's.
FIRST = 150
# So few that segments are merged in a month of nights too.
COMPACT_ABOVE = 16
Step = tuple[str, dict[str, Any]]


@dataclass
class Story:
    """What happens, step by step; the same for the same numbers.

    Attributes
    ----------
    steps : list of (kind, what)
    withdrawn : list of int
        Persons.
    """

    n_nights: int
    seed: int
    steps: list[Step] = field(default_factory=list)
    withdrawn: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        draw = random.Random(self.seed)
        n = self.n_nights
        promotions = {n // 3: 2, 2 * n // 3: 1}
        drift, back = n // 2, 3 * n // 4
        leaving = set(draw.sample(range(3, n), max(2, n // 36)))
        visits: dict[int, int] = dict.fromkeys(range(scene.PERSONS), 1)
        versions: Counter[str] = Counter()
        next_person, late = FIRST, None
        for day in range(n):
            if late is not None:
                self._add("sheet", name=late[0], ids=late[1])
                late = None
            if day in promotions:
                self._add("promote", version=promotions[day])
            ids = []
            for _ in range(draw.choice([0, 1, 2, 2, 3])):
                if draw.random() < 0.5 and next_person < 999:
                    visits[next_person] = 1
                    ids.append(scene.sample(next_person))
                    next_person += 1
                else:
                    person = draw.choice([one for one in visits if visits[one] < 6])
                    visits[person] += 1
                    ids.append(scene.sample(person, visits[person]))
            if ids:
                is_late = draw.random() < 0.15
                self._add("matrix", name=f"day{day:03d}", ids=ids, sheet=not is_late)
                late = (f"day{day:03d}", ids) if is_late else None
            if draw.random() < 0.25:
                person = draw.choice(list(visits))
                one = scene.sample(person, draw.randint(1, visits[person]))
                versions[one] += 1
                self._add("matrix", name=f"again{day:03d}", ids=[one], version=versions[one], sheet=False)
            if draw.random() < 0.1:
                self._add("broken", name=f"cut{day:03d}")
            if day == drift:
                plate = list(range(next_person, next_person + 25))
                next_person += len(plate)
                visits |= dict.fromkeys(plate, 1)
                self._add("matrix", name="plate", ids=[scene.sample(one) for one in plate], shift=1.0, sheet=True)
            self._add("night")
            if day == back:
                self._add("mark")
                self._add("rollback")
                self._add("lay_back")
                self._add("night")
            if day in leaving:
                person = draw.choice([one for one in visits if one >= FIRST or len(self.withdrawn) == 0])
                mine = [scene.sample(person, k + 1) for k in range(visits.pop(person))]
                self.withdrawn.append(person)
                self._add("withdraw", person=person)
                # Somebody sends their array once more.
                self._add("matrix", name=f"gone{day:03d}", ids=mine[:1], sheet=True)

        self._add("night")

    def _add(self, kind: str, **what: Any) -> None:
        self.steps.append((kind, what))


# -- living it ---------------------------------------------------------------------------------------------------------


def live(home: Path, n_nights: int, seed: int) -> None:
    """Go on with a story where it stands, to its end."""
    steps = Story(n_nights, seed).steps
    while (at := journal(home)["step"]) < len(steps):
        kind, what = steps[at]
        memo = _STEPS[kind](home, **what)
        if memo is None:
            memo = journal(home)["memo"]
        _write(home / "journal.json", json.dumps({"step": at + 1, "memo": memo, "kind": kind}))


def journal(home: Path) -> dict[str, Any]:
    """How far a story has come."""
    path = home / "journal.json"
    return dict(json.loads(path.read_text())) if path.exists() else {"step": 0, "memo": {}, "kind": ""}


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f"{path.name}.new")
    temporary.write_text(text)
    os.replace(temporary, path)


def _matrix(home: Path, name: str, ids: list[str], version: int = 0, shift: float = 0.0, sheet: bool = True) -> None:
    values = scene.counts(ids, version, shift)
    part = scene.write_npz(home / "part.npz", values, list(ids), scene.FEATURES)
    os.replace(part, home / "inbox" / f"rna__{name}.npz")
    if sheet:
        _sheet(home, name, ids)


def _sheet(home: Path, name: str, ids: list[str]) -> None:
    _write(home / "inbox" / f"rna__{name}.samples.csv", scene.sheet(ids).to_csv())


def _broken(home: Path, name: str) -> None:
    (home / "inbox" / f"rna__{name}.npz").write_bytes(b"PK")


def _promote(home: Path, version: int) -> None:
    scene.opened(home).promote("classes", version, "the story says so", "year")


def _night(home: Path) -> None:
    from sjd_dask.errors import DataError

    try:
        scene.night(home, compact_above=COMPACT_ABOVE)
    except DataError as error:
        if "drift holds" not in str(error):
            raise
        scene.night(home, compact_above=COMPACT_ABOVE, drift={"accept": True})


def _mark(home: Path) -> dict[str, Any]:
    """Which night will be taken back, and what it took in."""
    cohort = scene.opened(home)
    last = cohort.result(f"classes/{scene.OUTPUT}")
    names = [name for name, _ in last.meta["night_state"]["files"]]
    return {"snapshot": last.published_in, "files": names}


def _rollback(home: Path) -> None:
    from sjd_dask.jobs.rollback import roll_back

    target, cohort = journal(home)["memo"]["snapshot"], scene.opened(home)
    if cohort.change(target).undone_by is None:
        roll_back(cohort, target, "the story says so", "year")


def _lay_back(home: Path) -> None:
    for name in journal(home)["memo"]["files"]:
        done = home / "inbox" / "done" / name
        if done.exists():
            os.replace(done, home / "inbox" / name)


def _withdraw(home: Path, person: int) -> None:
    from sjd_dask.jobs.withdraw import withdraw_file

    ids = home / "leaving.txt"
    ids.write_text(f"person{person:03d}\n")
    withdraw_file(str(home / "cohort"), ids, inboxes=[home / "inbox"], who="year")


_STEPS: dict[str, Any] = {
    "matrix": _matrix, "sheet": _sheet, "broken": _broken, "promote": _promote, "night": _night, "mark": _mark,
    "rollback": _rollback, "lay_back": _lay_back, "withdraw": _withdraw,
}  # fmt: skip


@dataclass
class Kills:
    """Where a story was killed: step by step, and how it went on."""

    kinds: Counter[str] = field(default_factory=Counter)
    visible: int = 0


def live_with_kills(home: Path, n_nights: int, seed: int, n_kills: int, errors: Path) -> Kills:
    """The story in many lives: each but the last ends by SIGKILL, at a moment of which nobody is told."""
    steps = Story(n_nights, seed).steps
    draw = random.Random(seed + 1)
    kills = Kills()
    for goal in _goals(steps, n_kills):
        life = Life(live, home, n_nights, seed, errors=errors)
        while life.is_running and journal(home)["step"] < goal:
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 0.6))
        if not life.is_running:
            life.end()
            break
        life.kill()
        at = journal(home)["step"]
        kills.kinds[steps[at][0] if at < len(steps) else "end"] += 1
        if at < len(steps) and steps[at][0] != "withdraw":
            check_whole(home)
            kills.visible += 1
    assert Life(live, home, n_nights, seed, errors=errors).end(3600) == 0
    return kills


def _goals(steps: list[Step], n_kills: int) -> list[int]:
    """In which steps a life ends: those that are rare, and else all along the story."""
    rare = [at for at, (kind, _) in enumerate(steps) if kind in ("withdraw", "rollback")][: n_kills // 4]
    rest = n_kills - len(rare)
    return sorted([*rare, *(len(steps) * number // rest for number in range(rest))])


# -- what must hold ----------------------------------------------------------------------------------------------------


def check_whole(home: Path) -> None:
    """Whoever looks now sees a whole night: classes, reports, calls and rows of one change."""
    cohort = scene.opened(home)
    found = [one for one in cohort.results() if one.kind == "classes"]
    if not found:
        return
    newest = max(found, key=lambda one: one.version)
    table = newest.to_pandas().set_index("sample_id")
    reported = [one for one in cohort.results() if one.kind == "reported"]
    assert max(reported, key=lambda one: one.version).published_in == newest.published_in
    live_calls = cohort.call_history(scene.OUTPUT, live=True).set_index("sample_id")
    assert set(live_calls.index) == set(table.index) == set(cohort.assay("rna").sample_ids())
    for name in ("status", "call", "model"):
        mine, theirs = table[name], live_calls[name].reindex(table.index)
        assert ((mine == theirs) | (mine.isna() & theirs.isna())).all(), name


def nights(home: Path) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    """Classes and changes of every night that was not taken back, in order."""
    cohort = scene.opened(home)
    found = [one for one in cohort.results() if one.kind in ("classes", "changes")]
    changes = {one.published_in: one for one in found if one.kind == "changes"}
    for one in sorted((one for one in found if one.kind == "classes"), key=lambda one: one.version):
        yield one.to_pandas().set_index("sample_id"), changes[one.published_in].to_pandas()


def check_explained(home: Path) -> Counter[str]:
    """Every call that is new or another than the night before has its row and its reason, and no row is without."""
    reasons: Counter[str] = Counter()
    before = pd.DataFrame({"call": [], "status": []})
    for table, told in nights(home):
        reasons.update(told["reason"])
        rows = told[told["sample_id"].notna()].set_index("sample_id")
        was = before.reindex(table.index)
        idle = was["status"].isna() | (was["status"] == "not_eligible")
        fresh = idle & (table["status"] != "not_eligible")
        differs = ~((table["call"] == was["call"]) | (table["call"].isna() & was["call"].isna()))
        changed = set(table.index[fresh | differs])
        reports = rows[~_same(rows["reported_before"], rows["reported_call"])]
        assert changed <= set(rows.index) and set(rows.index) - changed <= set(reports.index)
        before = table
    assert set(reasons) <= {
        "new_person", "new_visit", "new_data", "new_model", "threshold", "withdrawn", "rollback",
    }  # fmt: skip
    return reasons


def _same(one: pd.Series[Any], other: pd.Series[Any]) -> pd.Series[Any]:
    return (one == other) | (one.isna() & other.isna())


def told(home: Path) -> list[Any]:
    """All changes of all nights, without the names of runs."""
    return [scene._cells(changes.drop(columns="run")) for _, changes in nights(home)]


def found_on_disk(home: Path, persons: list[int]) -> list[str]:
    """Places that name one of these people or their samples: bytes of all files, and what compressed ones hold."""
    words = [f"person{one:03d}" for one in persons] + [f"P{one:03d}_" for one in persons]
    places = []
    for top in (home / "cohort", home / "inbox"):
        for path in sorted(one for one in top.rglob("*") if one.is_file()):
            raw = path.read_bytes()
            texts = [raw.decode("latin-1")]
            if path.suffix == ".parquet":
                texts += [str(column.to_pylist()) for column in pq.read_table(path).columns]
            elif path.suffix == ".npz" and raw[:4] == b"PK\x03\x04":
                with np.load(path, allow_pickle=False) as opened:
                    texts += [str(opened[name].tolist()) for name in opened.files if opened[name].dtype.kind == "U"]
            places += [f"{path.relative_to(home)}: {word}" for word in words if any(word in one for one in texts)]
    return places + _in_segments(home, words)


def _in_segments(home: Path, words: list[str]) -> list[str]:
    import zarr

    places = []
    for path in sorted((home / "cohort" / "segments").rglob("*.zarr")):
        for name, array in zarr.open_group(str(path), mode="r").arrays():
            if array.dtype.kind not in "biuf":
                text = str(np.asarray(array[...]).tolist())
                places += [f"{path.name}/{name}: {word}" for word in words if word in text]
    return places


# -- the whole ---------------------------------------------------------------------------------------------------------


def year(folder: Path, n_nights: int, n_kills: int, seed: int) -> dict[str, Any]:
    """Tell the story twice and compare.

    Returns
    -------
    dict
        Plain data: nights, kills by the step they hit, reasons of changes, seconds.
    """
    begin = time.perf_counter()
    template = scene.make(folder / "template", models=2)
    scene.night(template)
    homes = [scene.copied(template, folder / name) for name in ("undisturbed", "killed")]
    # Side by side: each is one process at a time.
    quiet = Life(live, homes[0], n_nights, seed, errors=folder / "undisturbed.err")
    try:
        kills = live_with_kills(homes[1], n_nights, seed, n_kills, folder / "killed.err")
        assert quiet.end(36_000) == 0
    finally:
        quiet.kill()
    story = Story(n_nights, seed)
    wanted, found = (scene.published(home) for home in homes)
    for name in wanted:
        assert found[name] == wanted[name], f"{name} differs between the undisturbed and the killed story"
    assert told(homes[1]) == told(homes[0]), "changes differ between the undisturbed and the killed story"
    reasons = check_explained(homes[1])
    for home in homes:
        check_whole(home)
        assert found_on_disk(home, story.withdrawn) == []
    cohort = scene.opened(homes[1])
    return {
        "nights": n_nights,
        "steps": len(story.steps),
        "published": sum(1 for _ in nights(homes[1])),
        "kills": sum(kills.kinds.values()),
        "killed_in": dict(kills.kinds.most_common()),
        "looked_at_after_a_kill": kills.visible,
        "withdrawn": len(story.withdrawn),
        "samples": cohort.assay("rna").n_samples,
        "merged": sum(one["kind"] == "compact" for one in cohort.log()),
        "reasons": dict(reasons.most_common()),
        "seconds": round(time.perf_counter() - begin, 1),
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--nights", type=int, default=365)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    folder = given.output / "year"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    facts = year(folder, given.nights, given.kills, given.seed)
    text = json.dumps(facts, indent=2)
    (given.output / "year.json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
