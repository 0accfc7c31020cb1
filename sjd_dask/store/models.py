"""The registry of models: bundles as versions of results, one version of a name in production."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from sjd_dask.errors import SpecError
from sjd_dask.names import MODELS
from sjd_dask.store.bundle import check_bundle
from sjd_dask.store.catalogue import promotions, results
from sjd_dask.store.catalogue.promotions import Promotion
from sjd_dask.store.catalogue.results import BundleFile
from sjd_dask.store.catalogue.session import Catalogue, iso_time
from sjd_dask.store.files import Files
from sjd_dask.store.items import written
from sjd_dask.store.result import Result

if TYPE_CHECKING:
    from sjd_dask.store.cohort import Cohort

BUNDLE: Final = "bundle"
PRODUCTION: Final = "production"
# Of a model's meta: why it should be trained again, where it should.
RETRAIN: Final = "needs_retraining"
_REF = re.compile(rf"(?:{MODELS}/)?([^/@]+)(?:@(?:v?([0-9]+)|({PRODUCTION})))?")


@dataclass(frozen=True)
class ModelInfo:
    """One version of a model.

    Attributes
    ----------
    name : str
    version : int
    ref : str
        ``models/NAME@VERSION``.
    is_production : bool
    promoted_by, promoted_at, promoted_why : str, float (seconds since 1970), str; None where not in production
    hash : str
        Of the bundle.
    n_bytes : int
        Of the bundle.
    run : str or None
    published_in : int
    meta : dict
    """

    name: str
    version: int
    ref: str
    is_production: bool
    promoted_by: str | None
    promoted_at: float | None
    promoted_why: str | None
    hash: str
    n_bytes: int
    run: str | None
    published_in: int
    meta: dict[str, Any]

    @property
    def needs_retraining(self) -> bool:
        """Whether people whose data trained it were withdrawn since."""
        return bool(self.meta.get(RETRAIN))


def parse_model(text: str) -> tuple[str, int | None, bool]:
    """Name, version (None: not said) and whether ``@production`` was said.

    Raises
    ------
    SpecError
        The text has another form.
    """
    match = _REF.fullmatch(text)
    if match is None:
        raise SpecError(f"{text!r} does not name a model; write NAME@production, NAME@VERSION or NAME")
    name, version, production = match.groups()
    results.parse_ref(f"{MODELS}/{name}")
    return name, None if version is None else int(version), production is not None


class ModelRegistry:
    """What a cohort does with models."""

    files: Files
    catalogue: Catalogue

    def models(self, snapshot: int | None = None) -> list[ModelInfo]:
        """All versions of all models, by name and version."""
        with self.catalogue.read() as connection:
            live = {one.name: one for one in promotions.list_promotions(connection, snapshot=snapshot)}
        found = [one for one in results.list_results(self.catalogue, snapshot) if one.kind == MODELS]
        infos = []
        for record in sorted(found, key=lambda one: (one.name, one.version)):
            held = live.get(record.name)
            now = held if held is not None and held.version == record.version else None
            bundle = record.files[BUNDLE]
            infos.append(
                ModelInfo(
                    name=record.name,
                    version=record.version,
                    ref=f"{MODELS}/{record.name}@{record.version}",
                    is_production=now is not None,
                    promoted_by=now.who if now else None,
                    promoted_at=now.time if now else None,
                    promoted_why=now.why if now else None,
                    hash=bundle.hash,
                    n_bytes=bundle.n_bytes,
                    run=record.run_id,
                    published_in=record.published_in,
                    meta=record.meta,
                )
            )
        return infos

    def promotions(self, name: str) -> list[Promotion]:
        """Every promotion of a model that ever was, oldest first."""
        with self.catalogue.read() as connection:
            return promotions.list_promotions(connection, name, all_records=True)

    def find_model(self, ref: str, snapshot: int | None = None) -> Result:
        """A model by ``NAME@production``, ``NAME@VERSION`` or ``NAME`` (production), each also after ``models/``.

        Raises
        ------
        SpecError
            No such model, or none in production; the message names what there is and what to do.
        """
        name, version, _ = parse_model(ref)
        if version is None:
            with self.catalogue.read() as connection:
                found = promotions.in_production(connection, name, snapshot)
                if found is None:
                    raise SpecError(promotions.not_promoted(name, promotions.live_versions(connection, name)))
            version = found.version
        return Result(self.files, results.find_result(self.catalogue, f"{MODELS}/{name}@{version}", snapshot))

    def publish_model(
        self,
        name: str,
        bundle: BundleFile,
        tables: Mapping[str, pa.Table],
        meta: Mapping[str, Any],
        run_id: str | None = None,
        epoch: int | None = None,
        message: str = "",
        who: str | None = None,
    ) -> Result:
        """Make a written bundle the next version of a model, with tables beside it; nothing is promoted.

        Parameters
        ----------
        bundle : BundleFile
            From `bundle.write_bundle`.
        tables : mapping of str to Arrow table
            ``"table"`` is the main one.
        run_id, epoch : optional
            The run and the epoch this driver holds.

        Raises
        ------
        Busy
            Another driver took the run over. Nothing was published.
        DataError
            The bundle is not there as written. Nothing was published.
        """
        check_bundle(self.files, bundle)
        if BUNDLE in tables:
            raise ValueError(f"a table of a model can't be called {BUNDLE!r}")
        new = written(self.files, [(MODELS, name, {**tables, BUNDLE: bundle}, meta)])
        records = results.insert_results(self.catalogue, new, run_id=run_id, epoch=epoch, message=message, who=who)
        return Result(self.files, records[0])

    def promote(self, name: str, version: int, why: str = "", who: str | None = None) -> int | None:
        """Put a version of a model in production, in place of the one that is there.

        Returns
        -------
        int or None
            The snapshot; None where it is in production already.

        Raises
        ------
        SpecError
            There is no such version.
        """
        return promotions.promote(self.catalogue, name, version, why, who)

    def demote(self, name: str, why: str = "", who: str | None = None) -> int:
        """Take a model out of production, with nothing in its place. Returns the snapshot.

        Raises
        ------
        SpecError
            None is in production.
        """
        return promotions.demote(self.catalogue, name, why, who)

    def rollback_model(
        self, name: str, why: str = "", who: str | None = None, to: int | None = None
    ) -> tuple[int, int]:
        """Put back the version that was in production before. Once more: the one before that.

        Parameters
        ----------
        to : int, optional
            A version that was in production earlier still.

        Returns
        -------
        version : int
        snapshot : int

        Raises
        ------
        SpecError
            There was none before, or it is not published any more.
        """
        return promotions.roll_back(self.catalogue, name, why, who, to)


def model_facts(cohort: Cohort, name: str | None = None) -> list[dict[str, Any]]:
    """The models as plain data, without their meta.

    Raises
    ------
    SpecError
        There is no model of that name.
    """
    found = cohort.models()
    if name is not None:
        wanted, version, production = parse_model(name)
        mine = [one for one in found if one.name == wanted]
        kept = [one for one in mine if version in (None, one.version) and (one.is_production or not production)]
        if not kept:
            if mine and production:
                raise SpecError(promotions.not_promoted(wanted, [one.version for one in mine]))
            there = results.what_there_is(f"{MODELS}/{wanted}", [(MODELS, one.name, one.version) for one in found])
            raise SpecError(f"this cohort has no model {name!r}; {there}")
        found = kept
    return [_facts(one) for one in found]


def describe_model(cohort: Cohort, text: str) -> dict[str, Any]:
    """One model with its meta and all its promotions; a name alone is the one in production, else the newest."""
    name, version, _ = parse_model(text)
    facts = model_facts(cohort, text)
    held = [one for one in facts if one["is_production"]]
    chosen = held[0] if held and version is None else facts[-1]
    result = cohort.result(chosen["ref"])
    return {
        **chosen,
        "tables": result.tables,
        "promotions": [
            {
                "name": one.name,
                "version": one.version,
                "action": one.action,
                "who": one.who,
                "time": iso_time(one.time),
                "why": one.why,
                "from": one.published_in,
                "until": one.retired_in,
            }
            for one in cohort.promotions(name)
        ],
        "meta": result.meta,
    }


def promote_by_name(cohort: Cohort, text: str, why: str, who: str | None) -> tuple[str, int | None, list[str]]:
    """Promote what the text names (without a version the newest); the model, the snapshot, and what to be warned of.

    Raises
    ------
    SpecError
        There is no such model.
    """
    name, version, production = parse_model(text)
    if production:
        raise SpecError(f"{text} is in production by its name; say which version is to be: {name}@VERSION")
    chosen = describe_model(cohort, text) if version is not None else model_facts(cohort, name)[-1]
    snapshot = cohort.promote(name, chosen["version"], why, who)
    reason = chosen["needs_retraining"]
    return chosen["ref"], snapshot, [f"{chosen['ref']} needs retraining: {reason}"] if reason else []


def _facts(one: ModelInfo) -> dict[str, Any]:
    return {
        "ref": one.ref,
        "name": one.name,
        "version": one.version,
        "is_production": one.is_production,
        "promoted_at": None if one.promoted_at is None else iso_time(one.promoted_at),
        "promoted_by": one.promoted_by,
        "promoted_why": one.promoted_why,
        "needs_retraining": one.meta.get(RETRAIN) or None,
        "hash": one.hash,
        "bytes": one.n_bytes,
        "run": one.run,
        "snapshot": one.published_in,
        **{key: one.meta[key] for key in ("title", "classes", "n_panel", "platform") if key in one.meta},
    }
