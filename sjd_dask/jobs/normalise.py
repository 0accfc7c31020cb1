"""Normalised layers: fit a chain on a reference set or take a frozen one, then write rows segment by segment."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from sjd_dask.designs.labels import label_text
from sjd_dask.errors import Busy, DataError, SpecError
from sjd_dask.jobs import normalise_tasks as tasks
from sjd_dask.jobs.matrix import Matrix
from sjd_dask.jobs.normalise_facts import layer_facts, sample_counts
from sjd_dask.jobs.normalise_files import file_hashes, file_name, portable, with_paths
from sjd_dask.jobs.normalise_masks import CompanionAssays, masks_text
from sjd_dask.jobs.normalise_plan import make_plan
from sjd_dask.jobs.normalise_quality import QualityTables, fit_before, quality_tables
from sjd_dask.jobs.normalise_reference import ClusterReference, Phases
from sjd_dask.jobs.normalise_source import Source, row_layout
from sjd_dask.jobs.normalise_spec import NormaliseSpec
from sjd_dask.jobs.sources import SampleSource, open_source, select
from sjd_dask.jobs.spec import JobSpec, resolve_path
from sjd_dask.normalise.chain import Chain, check_methods, extend_chain, fit_chain
from sjd_dask.normalise.method import Arrays, Method, require_columns
from sjd_dask.normalise.quality import MOST_SKETCHED, sketched
from sjd_dask.runtime.fingerprint import fingerprint
from sjd_dask.runtime.plan import Partition, Plan
from sjd_dask.store.catalogue.layers import LayerRows
from sjd_dask.store.cohort import open_cohort
from sjd_dask.store.features import FeatureSpace
from sjd_dask.store.layer import check_layer_name, layer_key
from sjd_dask.store.layer_writing import LayerSegment, create_segment, finish_segment, plan_segments
from sjd_dask.store.layout import Encoding

if TYPE_CHECKING:
    from sjd_dask.jobs.driver import Runner
    from sjd_dask.runtime.runs import RunSession
    from sjd_dask.store.cohort import Cohort
    from sjd_dask.store.layer import Layer
    from sjd_dask.store.result import Result

QC = "qc"
LAYERS = "layers"
# In the meta of a quality table: samples without a row, and what they would be made from.
HELD = "held"
# Most rows of a task; a task writes whole chunk rows.
TASK_ROWS = 512
# How often tables are made anew because other runs published into the same layer.
PUBLISH_ATTEMPTS = 5
# Cells of a task: it holds their results, and several times as much while it works on a block of them.
TASK_CELLS = 8_000_000


@dataclass
class NormaliseJob:
    """A prepared job: everything is opened and checked, nothing computed."""

    spec: NormaliseSpec
    cohort: Cohort
    source: SampleSource
    frame: pd.DataFrame
    selected: list[str]
    reference_ids: list[str]
    methods: list[Method]
    chain: Chain | None
    taken_from: str | None
    companions: CompanionAssays
    sample_facts: dict[str, Any]
    fingerprint: str
    snapshot: int
    warnings: list[str] = field(default_factory=list)
    kind: str = LAYERS
    _product: _Product | None = None
    _out_space: FeatureSpace | None = None

    # -- plan ------------------------------------------------------------------------------------------------------

    def plan(self, n_workers: int, memory_per_worker: int, *, calibrate: bool = False) -> Plan:
        """Partitions, bytes, memory and time."""
        return make_plan(self, n_workers, memory_per_worker, calibrate=calibrate)

    def task_rows(self, n_features: int) -> int:
        """Samples of a task that writes rows: whole chunk rows."""
        step = self.cohort.layout.chunk_samples
        rows = min(TASK_ROWS, max(1, TASK_CELLS // max(1, n_features)))
        return max(step, rows // step * step)

    def up_to_date(self) -> list[str] | None:
        """References of what is there, where a frozen chain has nothing left to do; else None."""
        layer = self._layer(self.chain) if self.chain is not None and self.spec.extend_on is None else None
        if layer is None or any(self._todo(layer, self.chain)):
            return None
        quality = self._last_quality(self.chain)
        return [layer.ref, *([quality.ref] if quality is not None else [])]

    # -- execute ---------------------------------------------------------------------------------------------------

    def execute(self, plan: Plan, runner: Runner) -> tuple[dict[str, pa.Table], dict[str, Any]]:
        """Fit or take the chain, write what is new, judge every sample."""
        phases = Phases(runner, self.cohort.files, self.cohort.layout, self.spec.output, self.fingerprint)
        chain = self._chain(phases)
        key = layer_key(self.spec.output, chain.hash())
        layer = self._layer(chain)
        todo, retire = self._todo(layer, chain)
        segments, parts, quality = self._write(chain, key, todo, phases, layer)
        tables = quality_tables(self, chain, todo, parts, quality, self._last_quality(chain) if layer else None)
        chain = chain.with_extra(tables.frozen)
        self._product = _Product(chain, key, layer, segments, parts, todo, retire, tables, quality, phases)
        return tables.tables, layer_facts(self, chain, tables)

    def _chain(self, phases: Phases) -> Chain:
        if self.chain is not None and self.spec.extend_on is None:
            return self.chain
        reference = ClusterReference(self.source_of(self.reference_ids, self.chain), phases)
        if self.chain is not None:
            chain = extend_chain(self.chain, reference)
            self._tell_notes(chain)
            return chain
        chain = fit_chain(self.methods, reference, _facts())
        self._tell_notes(chain)
        # Files are read by the fit only; what the chain keeps of them is what was read, and their names.
        steps = tuple((portable(method), parameters) for method, parameters in chain.steps)
        return dataclasses.replace(chain, steps=steps, masks=self.companions.limits)

    def _tell_notes(self, chain: Chain) -> None:
        for method, parameters in chain.steps:
            self.warnings += [f"step `{method.method}`: {one}" for one in method.notes(parameters)]

    def source_of(self, sample_ids: list[str], chain: Chain | None) -> Source:
        assay = self.source.assay
        reader = assay.reader(sample_ids)
        order = None if chain is None else chain.check_features(assay.feature_ids(), f"assay {assay.name!r}")
        return Source(
            Matrix(reader, self.source.quantity),
            self.source.scale,
            self.frame.loc[list(sample_ids)],
            assay.feature_ids(),
            assay.features(),
            order,
            masks=self.companions.of(sample_ids, assay.feature_ids()),
        )

    def _layer(self, chain: Chain) -> Layer | None:
        """The version of these parameters, if it is published."""
        return self.cohort.find_layer(self.spec.output, layer_key(self.spec.output, chain.hash()))

    def _source_hashes(self, chain: Chain) -> dict[str, str]:
        """Hash of all that a sample's row is made from: its source row, companions, and the columns of the steps."""
        hashes = self.companions.row_hashes(self.source.assay.row_hashes())
        if chain.columns:
            # A corrected batch label makes the row anew.
            for one, *cells in self.frame[chain.columns].itertuples(name=None):
                text = "|".join([hashes[one], *(f"{len(cell)}:{cell}" for cell in map(label_text, cells))])
                hashes[one] = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
        return hashes

    def _todo(self, layer: Layer | None, chain: Chain) -> tuple[list[str], list[str]]:
        """Samples to normalise now, and those whose rows are to go because their source went."""
        chosen = self.selected
        if layer is None:
            return chosen, []
        here = self._source_hashes(chain)
        # What can't be normalised now can't be tomorrow, by the same parameters and from the same values.
        quality = self._last_quality(chain)
        held = quality.meta.get(HELD, {}) if quality is not None else {}
        done = {**held, **layer.source_hashes()}
        return [one for one in chosen if done.get(one) != here[one]], [one for one in done if one not in here]

    def _write(
        self, chain: Chain, key: str, todo: list[str], phases: Phases, layer: Layer | None
    ) -> tuple[list[LayerSegment], list[tasks.Written], Arrays | None]:
        quality = dict(chain.extra) or None
        if not todo:
            return [], [], quality
        space = self._space(chain)
        encoding = Encoding("float64" if self.spec.precision == "double" else "float32")
        if layer is not None:
            encoding = layer.encoding
        source = self.source_of(todo, chain)
        alone = len(todo) <= MOST_SKETCHED and set(chain.reference_samples) <= set(todo)
        if quality is None and not alone:
            quality = fit_before(self, chain, phases)
        chosen = None if len(todo) <= MOST_SKETCHED else frozenset(todo[i] for i in sketched(len(todo)))
        run_id = phases.runner.session.run_id
        segments = plan_segments(
            run_id,
            key,
            self.spec.output,
            list(source.reader.sample_ids),
            space,
            encoding,
            row_layout(self.cohort.layout, space.n_features, encoding.numpy_dtype.itemsize),
        )
        for segment in segments:
            create_segment(self.cohort.files, segment, space)
        partitions, first = [], 0
        for k, segment in enumerate(segments):
            for start, stop in segment.row_ranges(self.task_rows(source.reader.n_features)):
                extras = {"phase": "apply", "segment": k, "row_start": start, "samples": [first + start, first + stop]}
                # What is left to do may be less when a run is resumed, so its rows may be other samples.
                extras["plan"] = segment.plan_hash
                partitions.append(Partition(len(partitions), 0, source.reader.n_features, extras))
            first += segment.n_samples
        shared = chain.sharing(source.feature_ids)
        work = tasks.ApplyWork(source, shared, tuple(segments), self.cohort.files, quality, chosen, phases.durable)
        written = phases.write(tasks.apply_task, work, partitions, segments, lambda part: tasks.read_written(part).rows)
        parts = [tasks.read_written(part) for part in written]
        self._of_segment = [partition.extras["segment"] for partition in partitions]
        return segments, parts, quality

    def _last_quality(self, chain: Chain) -> Result | None:
        """The newest quality table of these parameters."""
        found = [one for one in self._qualities() if one.meta["parameters_hash"] == chain.hash()]
        return max(found, key=lambda result: result.version, default=None)

    def _qualities(self) -> list[Result]:
        return [one for one in self.cohort.results() if (one.kind, one.name) == (QC, self.spec.output)]

    def _space(self, chain: Chain) -> FeatureSpace:
        if self._out_space is None:
            self._out_space = self._new_space(chain)
        return self._out_space

    def _new_space(self, chain: Chain) -> FeatureSpace:
        if np.array_equal(chain.out_feature_ids, self.source.assay.feature_ids()):
            return self.source.assay.feature_space
        annotation = self.source.assay.features()
        return FeatureSpace.of(list(chain.out_feature_ids), annotation if len(annotation.columns) else None)

    # -- publish ---------------------------------------------------------------------------------------------------

    def publish(self, session: RunSession, tables: dict[str, pa.Table], meta: dict[str, Any]) -> list[str]:
        """Rows, parameters and the quality table in one transaction."""
        from sjd_dask.store.arrays import write_arrays

        product = self._product
        assert product is not None
        chain, layer = product.chain, product.layer
        here = self._source_hashes(chain)
        rows = []
        for k, segment in enumerate(product.segments):
            parts = [part for part, of in zip(product.parts, self._of_segment, strict=True) if of == k]
            record, row_hashes = finish_segment(
                self.cohort.files,
                segment,
                [part.rows for part in parts],
                self._space(chain),
                sync=not product.phases.durable,
            )
            pending = np.concatenate([part.pending for part in parts])
            # A sample without values has no row: it is in the quality table only, with the reason.
            hashes = ["" if held else here[one] for one, held in zip(segment.sample_ids, pending, strict=True)]
            if any(hashes):
                rows.append(LayerRows(record, row_hashes, hashes))
        if layer is None and not rows:
            reasons = product.tables.pending
            raise DataError(
                f"none of the {len(product.todo):,} samples can be normalised "
                f"({', '.join(f'{reason}: {count}' for reason, count in reasons.items())}); nothing was published"
            )
        parameters = None
        if layer is None:
            arrays, attributes = chain.to_arrays()
            parameters = write_arrays(self.cohort.files, arrays, attributes)
        for attempt in range(PUBLISH_ATTEMPTS):
            # Another run may have published into this layer meanwhile: its samples stay in the quality table.
            now = self._last_quality(chain) if self._layer(chain) is not None else None
            newest = max((one.version for one in self._qualities()), default=0)
            if attempt or (now.ref if now is not None else None) != product.tables.before:
                merged = quality_tables(self, chain, product.todo, product.parts, product.quality, now)
                tables, meta = merged.tables, {**meta, **sample_counts(self, merged)}
            try:
                published = self.cohort.publish_layer(
                    session.run_id,
                    session.epoch,
                    self.spec.output,
                    product.key,
                    parameters,
                    rows,
                    meta,
                    companions=[(QC, self.spec.output, tables, {**meta, HELD: self._held(now, here)})],
                    companions_after=[newest],
                    retire=product.retire,
                )
                break
            except Busy:
                if attempt + 1 == PUBLISH_ATTEMPTS or newest == max((q.version for q in self._qualities()), default=0):
                    raise
        product.phases.clean()
        return list(published.refs)

    def _held(self, before: Result | None, here: dict[str, str]) -> dict[str, str]:
        """Source hashes of the samples that have no row, for the next run: there is nothing new about them."""
        assert self._product is not None
        done, parts = set(self._product.todo), self._product.parts
        held = {} if before is None else before.meta.get(HELD, {})
        reasons = np.concatenate([part.pending for part in parts]) if parts else np.empty(0, dtype=object)
        ids = [one for segment in self._product.segments for one in segment.sample_ids]
        return {
            **{one: old for one, old in held.items() if one in here and one not in done},
            **{one: here[one] for one, reason in zip(ids, reasons, strict=True) if reason != ""},
        }


@dataclass
class _Product:
    """What was computed and waits to be published."""

    chain: Chain
    key: str
    layer: Layer | None
    segments: list[LayerSegment]
    parts: list[tasks.Written]
    todo: list[str]
    retire: list[str]
    tables: QualityTables
    quality: Arrays | None
    phases: Phases


def _facts() -> dict[str, Any]:
    from importlib.metadata import version

    return {name: version(name) for name in ("sjd-dask", "numpy", "scipy", "pandas", "numba")}


def prepare(spec: JobSpec, base: Path) -> NormaliseJob:
    """Open the cohort, select samples, check the steps; nothing is computed.

    Raises
    ------
    SpecError, DataError
        Naming what the spec asks for and the cohort doesn't have.
    """
    assert isinstance(spec, NormaliseSpec)
    # Where a run is taken up again, the folder of its spec is not known any more.
    spec = with_paths(spec, lambda path: resolve_path(path, base))
    check_layer_name(spec.output)
    cohort = open_cohort(resolve_path(spec.cohort, base))
    source = open_source(cohort, spec.assay, spec.layer)
    frame, facts = select(source, cohort, spec.samples)
    companions = CompanionAssays(cohort, spec)
    chain, taken_from, methods, warnings = None, None, [], []
    if spec.parameters is not None:
        layer = cohort.layer(spec.parameters)
        taken_from = layer.ref
        stored = layer.parameters()
        chain = Chain.from_arrays(stored.arrays, stored.attrs)
        if chain.source_scale != source.scale:
            raise SpecError(
                f"{taken_from} was fitted on {chain.source_scale}, and {source.name!r} holds {source.scale}: "
                "take an assay of the same quantity"
            )
        chain.check_features(source.assay.feature_ids(), f"assay {source.name!r}")
        require_columns(chain.columns, frame, chain.text)
        if chain.masks != companions.limits:
            warnings.append(
                f"{taken_from} was fitted with {masks_text(chain.masks)}, and this spec has "
                f"{masks_text(companions.limits)}: these samples become a version of their own; give the same "
                "`detection_p` and `bead_count` to go on with the one taken"
            )
            chain = dataclasses.replace(chain, masks=companions.limits)
        reference_ids = select(source, cohort, spec.extend_on, "extend_on")[0].index.tolist() if spec.extend_on else []
    else:
        assert spec.steps is not None
        methods = [step.make() for step in spec.steps]
        check_methods(methods, source.scale, frame)
        reference_ids = (
            select(source, cohort, spec.fit_on, "fit_on")[0].index.tolist() if spec.fit_on else list(frame.index)
        )
    for name in [*spec.factors, *([spec.sex] if spec.sex else []), *([spec.colour_by] if spec.colour_by else [])]:
        if name not in frame.columns:
            raise SpecError(
                f"{name!r} is not a sample column; there are: {', '.join(map(str, frame.columns)) or 'none'}"
            )
    selected = [str(one) for one in frame.index]
    everyone = {*selected, *reference_ids, *(chain.reference_samples if chain else ())}
    frame_all = select(source, cohort, None)[0]
    frame = frame_all.loc[[one for one in frame_all.index if one in everyone]]
    companions.check([*dict.fromkeys([*selected, *reference_ids])], source.assay.feature_ids(), source.name)
    columns = sorted(
        {name for method in methods for name in (*method.fit_columns(), *method.apply_columns())}
        | set(chain.columns if chain else ())
        | set(spec.factors)
        | ({spec.sex} if spec.sex else set())
    )
    key = {
        "spec": with_paths(spec, file_name).model_dump(mode="json", exclude={"cohort", "colour_by"}),
        "content": source.assay.reader(list(frame.index)).content_hash(),
        "samples": selected,
        "reference": reference_ids,
        "columns": {name: frame[name].astype(str).tolist() for name in columns},
        "files": [file_hashes(method) for method in methods],
        "masks": companions.content([*dict.fromkeys([*selected, *reference_ids])]),
        "chain": chain.hash() if chain else None,
        "methods": {method.method: method.version for method in methods},
    }
    job = NormaliseJob(
        spec=spec,
        cohort=cohort,
        source=source,
        frame=frame,
        selected=selected,
        reference_ids=reference_ids,
        methods=methods,
        chain=chain,
        taken_from=taken_from,
        companions=companions,
        sample_facts=facts,
        fingerprint="",
        snapshot=source.assay.snapshot,
        warnings=warnings,
    )
    if chain is not None and spec.extend_on is None:
        # What is left to do is part of what the run is: a sample may be corrected, and corrected back.
        key["left"] = job._todo(job._layer(chain), chain)
    if methods:
        reference = ClusterReference(job.source_of(reference_ids, None), None)
        for method in methods:
            method.check(reference)
    job.fingerprint = fingerprint(key)
    return job
