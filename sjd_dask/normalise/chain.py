"""A chain of fitted steps as one frozen object: what was fitted, on which samples, and a hash that names it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from sjd_dask import names
from sjd_dask.errors import DataError, SpecError
from sjd_dask.normalise.method import METHODS, Arrays, Block, Method, Reference, require_columns

FORMAT = 1
# Attribute of stored parameters from which ids were taken out: the hash they had with them.
KEPT_HASH = "kept_hash"
_PREFIX = "step"
_EXTRA = "extra."


@dataclass(frozen=True, eq=False)
class Chain:
    """Steps with their parameters, frozen.

    Attributes
    ----------
    steps : tuple of (Method, dict of arrays)
    feature_ids, out_feature_ids : ndarray of str objects
        Features it takes, in order, and features it gives.
    source_scale, scale : str
        What the values are before and after.
    reference_samples : tuple of str
        The samples it was fitted on.
    masks : dict of str to float
        Limits beyond which values were missing before the first step, such as those of detection p-values.
    facts : dict
        Provenance as plain data: versions of the package and libraries. Not part of the hash.
    extra : dict of str to ndarray
        Arrays kept beside the steps, such as the reference of the quality table. They change no value of a layer and
        are not part of the hash.
    """

    steps: tuple[tuple[Method, Arrays], ...]
    feature_ids: NDArray[Any]
    out_feature_ids: NDArray[Any]
    source_scale: str
    scale: str
    reference_samples: tuple[str, ...]
    masks: dict[str, float] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    extra: Arrays = field(default_factory=dict)

    # -- what it is ------------------------------------------------------------------------------------------------

    @property
    def text(self) -> str:
        """The names of the steps."""
        return ", ".join(method.method for method, _ in self.steps)

    @property
    def columns(self) -> list[str]:
        """Sample columns that `apply` needs."""
        return list(dict.fromkeys(name for method, _ in self.steps for name in method.apply_columns()))

    @property
    def batch_column(self) -> str | None:
        """The sample column of batches that a step works on."""
        for method, _ in self.steps:
            for name in ("batch", "plate"):
                if isinstance(found := getattr(method, name, None), str):
                    return found
        return None

    @property
    def bundle_problems(self) -> list[str]:
        """Why this chain can't be part of a model; empty if it can."""
        found = []
        for method, _ in self.steps:
            if not method.freezes:
                found.append(f"step `{method.method}` can't be frozen: {method.why_not_frozen}")
            if method.outcome_columns():
                found.append(
                    f"step `{method.method}` needs {', '.join(map(repr, method.outcome_columns()))} of each sample, "
                    "which a model must not know: fit it without covariates"
                )
        return found

    def require_bundle(self) -> None:
        """Refuse a chain that can't be part of a model.

        Raises
        ------
        SpecError
            With every reason.
        """
        if problems := self.bundle_problems:
            raise SpecError(f"this chain can't be part of a model: {'; '.join(problems)}")

    def hash(self) -> str:
        """blake2b-128 over methods, options, versions, features and parameters, in hexadecimal."""
        return self._hash

    def sharing(self, feature_ids: NDArray[Any]) -> Chain:
        """The same chain with these equal ids in place of its own, so that a worker holds them once."""
        if not np.array_equal(feature_ids, self.feature_ids):
            return self
        same = np.array_equal(feature_ids, self.out_feature_ids)
        return self._same(feature_ids=feature_ids, out_feature_ids=feature_ids if same else self.out_feature_ids)

    def with_extra(self, extra: Arrays) -> Chain:
        """The same chain with other arrays beside the steps; its hash stays."""
        return self._same(extra=extra)

    def _same(self, **changes: Any) -> Chain:
        """A copy that differs only in what the hash doesn't tell: the hash is not computed again."""
        made = dataclasses.replace(self, **changes)
        made.__dict__["_hash"] = self._hash
        if kept := self.__dict__.get("_kept_hash"):
            made.__dict__["_kept_hash"] = kept
        return made

    @cached_property
    def _hash(self) -> str:
        digest = hashlib.blake2b(digest_size=16)
        arrays, attributes = self.to_arrays()
        for one in ("facts", KEPT_HASH):
            attributes.pop(one, None)
        digest.update(json.dumps(attributes, sort_keys=True).encode())
        for name in sorted(one for one in arrays if not one.startswith(_EXTRA)):
            value = arrays[name]
            if value.dtype.kind in "UO":
                # Whatever the width of the type. No id holds the separator: NumPy's text type could not keep it.
                kind, content = "str", "\0".join(value.ravel().tolist()).encode()
            else:
                plain = np.ascontiguousarray(value, dtype=value.dtype.newbyteorder("<"))
                kind, content = plain.dtype.str, plain.tobytes()
            digest.update(f"{name}|{kind}|{value.shape}|{len(content)}|".encode())
            digest.update(content)
        return digest.hexdigest()

    # -- apply -----------------------------------------------------------------------------------------------------

    def check_features(self, feature_ids: NDArray[Any], what: str = "the data") -> NDArray[np.int64] | None:
        """Where this chain's features stand among others: indices, or None where they are the same in order.

        Raises
        ------
        DataError
            Features of the chain are not there, or there are others: named and counted.
        """
        if len(feature_ids) == len(self.feature_ids) and bool(np.all(feature_ids == self.feature_ids)):
            return None
        place = {str(one): i for i, one in enumerate(feature_ids)}
        absent = [str(one) for one in self.feature_ids if str(one) not in place]
        known = set(map(str, self.feature_ids))
        strange = [one for one in place if one not in known]
        if absent or strange:
            raise DataError(
                f"the parameters ({self.text}) were fitted on {len(self.feature_ids):,} features, and {what} has "
                f"{len(feature_ids):,} others: "
                + "; ".join(
                    f"{len(some):,} {word} ({', '.join(map(repr, some[:3]))}{', ...' if len(some) > 3 else ''})"
                    for some, word in ((absent, "missing"), (strange, "unknown"))
                    if some
                )
                + ". Fit on data of the same features, or reconcile them at ingest with --features."
            )
        return np.array([place[str(one)] for one in self.feature_ids], dtype=np.int64)

    def apply(self, block: Block) -> Block:
        """The block after all steps. Its features must be those of the chain, in order (`check_features`)."""
        if block.scale != self.source_scale:
            raise SpecError(f"the parameters ({self.text}) are for {self.source_scale}, and the data are {block.scale}")
        for method, parameters in self.steps:
            block = method.apply(block, parameters)
        return scaled_counts(block)

    # -- as arrays and as a Dataset --------------------------------------------------------------------------------

    def to_arrays(self) -> tuple[Arrays, dict[str, Any]]:
        """All arrays by name, and everything else as plain data."""
        arrays: Arrays = {
            "feature_id": _text(self.feature_ids),
            "out_feature_id": _text(self.out_feature_ids),
            "reference_sample": _text(self.reference_samples),
        }
        for i, (method, parameters) in enumerate(self.steps):
            for name, value in parameters.items():
                array = np.asarray(value)
                arrays[f"{_PREFIX}{i}.{method.method}.{name}"] = _text(array) if array.dtype.kind in "UO" else array
        for name, value in self.extra.items():
            array = np.asarray(value)
            arrays[f"{_EXTRA}{name}"] = _text(array) if array.dtype.kind in "UO" else array
        kept = self.__dict__.get("_kept_hash")
        attributes = {
            "format": FORMAT,
            **({KEPT_HASH: kept} if kept else {}),
            "steps": [{**method.options(), "version": method.version} for method, _ in self.steps],
            "source_scale": self.source_scale,
            "scale": self.scale,
            **({"masks": self.masks} if self.masks else {}),
            "facts": self.facts,
        }
        return arrays, attributes

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], attributes: Mapping[str, Any]) -> Chain:
        """The reverse of `to_arrays`.

        Raises
        ------
        DataError
            Parameters of a newer format, of an unknown method, or of another version of a method.
        """
        if int(attributes["format"]) > FORMAT:
            raise DataError(
                f"these parameters have format {attributes['format']}, and this version of sjd-dask knows {FORMAT}: "
                "install a newer one"
            )
        steps = []
        for i, raw in enumerate(attributes["steps"]):
            options = dict(raw)
            name, version = options.pop("method"), options.pop("version")
            if name not in METHODS:
                raise DataError(f"these parameters belong to the method {name!r}, which this version doesn't have")
            kind = METHODS[name]
            if version != kind.version:
                raise DataError(
                    f"these parameters were fitted by version {version} of `{name}`, and this is version "
                    f"{kind.version}: its numbers changed. Fit again, or install the older sjd-dask."
                )
            head = f"{_PREFIX}{i}.{name}."
            parameters = {key.removeprefix(head): value for key, value in arrays.items() if key.startswith(head)}
            steps.append((kind(**options), parameters))
        made = cls(
            steps=tuple(steps),
            feature_ids=arrays["feature_id"].astype(object),
            out_feature_ids=arrays["out_feature_id"].astype(object),
            source_scale=str(attributes["source_scale"]),
            scale=str(attributes["scale"]),
            reference_samples=tuple(map(str, arrays["reference_sample"])),
            masks=dict(attributes.get("masks", {})),
            facts=dict(attributes.get("facts", {})),
            extra={k.removeprefix(_EXTRA): v for k, v in arrays.items() if k.startswith(_EXTRA)},
        )
        if kept := attributes.get(KEPT_HASH):
            # People who withdrew are no longer named among the reference samples; what `apply` does is the same.
            made.__dict__["_hash"] = made.__dict__["_kept_hash"] = str(kept)
        return made

    def to_dataset(self) -> xr.Dataset:
        """The parameters as a Dataset with provenance in its attributes.

        Returns
        -------
        xarray.Dataset
            One variable a parameter, named ``step0.tmm.reference_counts``; `attrs["chain"]` is JSON,
            `attrs["hash"]` the hash.
        """
        arrays, attributes = self.to_arrays()
        sizes = {len(self.feature_ids): names.FEATURES}
        if len(self.out_feature_ids) != len(self.feature_ids):
            sizes[len(self.out_feature_ids)] = "out_features"
        variables: dict[str, Any] = {}
        for name, value in arrays.items():
            fixed = {"feature_id": names.FEATURES, "reference_sample": "reference_samples"}.get(name)
            if name == "out_feature_id":
                fixed = "out_features" if len(sizes) > 1 else names.FEATURES
            dims = (fixed,) if fixed else self._dims(name, value, sizes)
            # As text of any length: Zarr's type of fixed length is not known to every codec pipeline.
            variables[name] = (dims, value.astype(object) if value.dtype.kind == "U" else value)
        return xr.Dataset(variables, attrs={"chain": json.dumps(attributes, sort_keys=True), "hash": self.hash()})

    def _dims(self, name: str, value: NDArray[Any], sizes: dict[int, str]) -> tuple[str, ...]:
        head, _, rest = name.partition(".")
        declared: tuple[str, ...] = ()
        if head.startswith(_PREFIX):
            method = self.steps[int(head.removeprefix(_PREFIX))][0]
            declared = method.dims.get(rest.partition(".")[2], ())
        dims = []
        for axis, length in enumerate(value.shape):
            word = declared[axis] if axis < len(declared) else ""
            if word in (names.FEATURES, "features_in") or not word:
                # A feature space between two steps that drop features has a name of its own.
                word = sizes.get(length, f"{head}_features") if word else f"{name}_{axis}"
                dims.append(word)
            else:
                dims.append(f"{head}_{word}")
        return tuple(dims)

    @classmethod
    def from_dataset(cls, dataset: xr.Dataset) -> Chain:
        """The reverse of `to_dataset`.

        Raises
        ------
        DataError
            The arrays are not the ones that were hashed.
        """
        if "chain" not in dataset.attrs:
            raise DataError("this Dataset holds no parameters of a normalisation: it lacks the attribute 'chain'")
        chain = cls.from_arrays(
            {
                str(name): _text(value) if (value := variable.to_numpy()).dtype.kind in "OTU" else value
                for name, variable in dataset.variables.items()
            },
            json.loads(dataset.attrs["chain"]),
        )
        if dataset.attrs.get("hash") not in (None, chain.hash()):
            raise DataError("these parameters were changed after they were fitted: their hash differs")
        return chain


def scaled_counts(block: Block) -> Block:
    """Counts that a chain leaves with size factors, divided by them.

    Counts per million of the effective library size (edgeR's `cpm`), or with DESeq2's size factors counts divided by
    these (its `counts(normalized=TRUE)`). Counts without factors stay counts.
    """
    context = block.context
    if block.scale != names.COUNTS or not ({"size_factor", "effective_library_size", "library_size"} & set(context)):
        return block
    if "size_factor" in context:
        return block.with_(values=block.values / context["size_factor"][:, None])
    size = context.get("effective_library_size", context.get("library_size"))
    assert size is not None
    return block.with_(values=block.values / size[:, None] * 1e6)


def fit_chain(methods: Sequence[Method], reference: Reference, facts: dict[str, Any] | None = None) -> Chain:
    """Fit methods one after another, each on what the ones before leave of the reference set.

    Parameters
    ----------
    methods : sequence of Method
    reference : Reference
    facts : dict, optional
        Provenance as plain data.

    Raises
    ------
    SpecError
        No steps, a step that doesn't take what the one before gives, or a sample column that isn't there.
    DataError
        What a method refuses in the reference set.
    """
    scale = check_methods(methods, reference.scale, reference.samples)
    feature_ids, source_scale, samples = reference.feature_ids, reference.scale, reference.sample_ids
    steps: list[tuple[Method, Arrays]] = []
    for number, method in enumerate(methods):
        method.check(reference)
        parameters = method.fit(reference)
        steps.append((method, parameters))
        if number < len(methods) - 1:
            reference = reference.after(method, parameters)
        else:
            kept = method.out_features(parameters, reference.feature_ids)
            out = reference.feature_ids if kept is None else reference.feature_ids[kept]
    if not len(out):
        raise DataError(f"no feature is left after {', '.join(method.method for method in methods)}")
    return Chain(
        steps=tuple(steps),
        feature_ids=feature_ids,
        out_feature_ids=out,
        source_scale=source_scale,
        scale=scale,
        reference_samples=samples,
        facts=facts or {},
    )


def check_methods(methods: Sequence[Method], scale: str, samples: pd.DataFrame) -> str:
    """Refuse early what no fit could do; give the scale at the end.

    Raises
    ------
    SpecError
        No steps, a step that doesn't take what the one before gives, or a sample column that isn't there.
    """
    if not methods:
        raise SpecError("a chain needs at least one step")
    for method in methods:
        scale = method.out_scale(scale)
        require_columns(list(dict.fromkeys([*method.fit_columns(), *method.apply_columns()])), samples, method.method)
    return scale


def extend_chain(chain: Chain, reference: Reference) -> Chain:
    """A chain with parameters for the batches of some named samples added; everything else stays, bit for bit.

    Raises
    ------
    SpecError
        No step of the chain has batches.
    DataError
        What a method refuses: a batch that is known already, too few samples.
    """
    steps: list[tuple[Method, Arrays]] = []
    extended = False
    for number, (method, parameters) in enumerate(chain.steps):
        added = method.extend(parameters, reference)
        if added is not None:
            parameters, extended = added, True
        steps.append((method, parameters))
        if number < len(chain.steps) - 1:
            reference = reference.after(method, parameters)
    if not extended:
        raise SpecError(f"no step of this chain ({chain.text}) has parameters for batches, so nothing can be added")
    return dataclasses.replace(chain, steps=tuple(steps))


def _text(values: Any) -> NDArray[Any]:
    flat = np.asarray(values, dtype=object)
    return flat.astype(str) if flat.size else np.empty(flat.shape, dtype="U1")
