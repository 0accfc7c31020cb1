"""The frozen way from a raw value to a call: normalisation chain, classifier, and the platform they were made for."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sjd_dask.errors import DataError
from sjd_dask.normalise import methods as _methods  # noqa: F401 - registers the methods of stored chains
from sjd_dask.normalise.chain import Chain
from sjd_dask.store.bundle import read_bundle, write_bundle
from sjd_dask.store.catalogue.results import BundleFile
from sjd_dask.store.catalogue.tombstones import id_key, keyed_hash
from sjd_dask.store.layer import refuse_blocked

if TYPE_CHECKING:
    from collections.abc import Collection

    from sjd_dask.classify.classifier import Classifier
    from sjd_dask.store.assay import Assay
    from sjd_dask.store.cohort import Cohort
    from sjd_dask.store.files import Files

FORMAT = 1
# The file of a model's result that holds the bundle.
BUNDLE = "bundle"
# Files: everything of the classifier is under its folder.
CLASSIFIER, CHAIN, CHAIN_FACTS, PLATFORM, REFERENCE, RECORD = (
    "classifier/", "chain.npz", "chain.json", "platform.npz", "reference.npz", "training.npz",
)  # fmt: skip
# Share of the features of its platform that an assay must have.
LEAST_FEATURES = 0.9
# Parameters and options of methods that name a sample.
_NAMES_SAMPLES = ("reference_sample", "target_samples")
Arrays = Mapping[str, NDArray[Any]]
# Bundles of this process by hash, the last used last.
MOST_LOADED = 4
_loaded: dict[str, Bundle] = {}


@dataclass(frozen=True, eq=False)
class Bundle:
    """Everything that a call hangs on.

    Attributes
    ----------
    chain : Chain or None
        From raw values to those that the classifier takes; None where these are the same. It names no sample.
    classifier : Classifier
    platform : dict
        ``assay``, ``quantity`` (stored), ``scale`` (as read), ``scale_after``, ``feature_hash``, ``n_features``,
        ``sample_columns`` that the chain needs: plain data.
    feature_ids : ndarray of str objects
        Features of the platform, in order.
    facts : dict
        Plain data: recipe, counts of persons, versions.
    reference : dict of arrays
        How values and scores lay in training (`classify.reference.Reference.to_arrays`); may be empty.
    record : dict of arrays
        ``samples`` and ``persons`` that were trained on, as hashes that only the cohort's key makes.
    hash : str
        Of the bundle as it is published; empty before.
    """

    chain: Chain | None
    classifier: Classifier
    platform: dict[str, Any]
    feature_ids: NDArray[Any]
    facts: dict[str, Any] = field(default_factory=dict)
    reference: Arrays = field(default_factory=dict)
    record: Arrays = field(default_factory=dict)
    hash: str = ""

    # -- files -----------------------------------------------------------------------------------------------------

    def to_blobs(self) -> tuple[dict[str, bytes], dict[str, Any]]:
        """Files by name, and facts. Equal content gives equal bytes."""
        blobs = {f"{CLASSIFIER}{name}": blob for name, blob in self.classifier.to_files().items()}
        if self.chain is not None:
            arrays, attributes = self.chain.to_arrays()
            attributes.pop("facts")
            blobs[CHAIN] = pack(arrays)
            blobs[CHAIN_FACTS] = json.dumps(attributes, sort_keys=True).encode()
        blobs[PLATFORM] = pack({"feature_id": self.feature_ids})
        blobs.update({name: pack(one) for name, one in ((REFERENCE, self.reference), (RECORD, self.record)) if one})
        return blobs, {"bundle_format": FORMAT, "platform": self.platform, "facts": self.facts}

    @classmethod
    def from_blobs(cls, blobs: Mapping[str, bytes], facts: Mapping[str, Any], bundle_hash: str = "") -> Bundle:
        """The reverse of `to_blobs`.

        Raises
        ------
        DataError
            A newer format, a file that is absent, or a type of model that isn't known.
        """
        from sjd_dask.classify.classifier import Classifier

        if int(facts.get("bundle_format", 0)) > FORMAT:
            raise DataError(
                f"this model has format {facts['bundle_format']}, and this version of sjd-dask knows {FORMAT}: install "
                "a newer one"
            )
        absent = [name for name in (PLATFORM, *((CHAIN,) if CHAIN_FACTS in blobs else ())) if name not in blobs]
        if absent:
            raise DataError(f"this model lacks {', '.join(absent)}: it is no bundle of a classifier")
        chain = None
        if CHAIN in blobs:
            chain = Chain.from_arrays(unpack(blobs[CHAIN]), json.loads(blobs[CHAIN_FACTS]))
        classifier = Classifier.from_files(
            {name.removeprefix(CLASSIFIER): blob for name, blob in blobs.items() if name.startswith(CLASSIFIER)}
        )
        return cls(
            chain,
            classifier,
            dict(facts["platform"]),
            unpack(blobs[PLATFORM])["feature_id"].astype(object),
            dict(facts["facts"]),
            unpack(blobs[REFERENCE]) if REFERENCE in blobs else {},
            unpack(blobs[RECORD]) if RECORD in blobs else {},
            bundle_hash,
        )

    def save(self, cohort: Cohort) -> BundleFile:
        """Write it; `Cohort.publish_model` makes it visible."""
        blobs, facts = self.to_blobs()
        return write_bundle(cohort.files, blobs, facts)

    # -- what it takes ---------------------------------------------------------------------------------------------

    def check_platform(self, assay: Assay) -> None:
        """Refuse an assay that isn't of the platform the model was made for.

        The same quantity, and at least 90 % of the features by id; others may be there. Which of them must all be
        there is a matter of the chain (`normalise.restrict`).

        Raises
        ------
        DataError
            Naming both platforms.
        """
        self.check_features(assay.name, assay.quantity, assay.feature_ids())

    def check_features(self, name: str, quantity: str, feature_ids: NDArray[Any]) -> None:
        """The same for values that are in no assay. See `check_platform`."""
        made = self.platform
        mine = f"the model was made for {made['quantity']} of {made['n_features']:,} features (assay {made['assay']!r})"
        theirs = f"{name!r} holds {quantity} of {len(feature_ids):,} features"
        if quantity != made["quantity"]:
            raise DataError(f"{mine}, and {theirs}: another platform. Take an assay of the same quantity.")
        there = np.isin(self.feature_ids.astype(str), np.asarray(feature_ids, dtype=object).astype(str))
        share = float(there.mean())
        if share < LEAST_FEATURES:
            first = ", ".join(map(repr, self.feature_ids[:3]))
            others = ", ".join(map(repr, list(feature_ids[:3])))
            raise DataError(
                f"{mine}, and {theirs}, which has {int(there.sum()):,} of them ({share:.1%}; {LEAST_FEATURES:.0%} are "
                f"needed): another platform. The model's begin with {first}, these with {others}. If they are the same "
                "features under other ids, reconcile them at ingest with --features."
            )


def load(cohort: Cohort, ref: str) -> Bundle:
    """A published model: NAME@VERSION, NAME@production, or NAME for the one in production.

    Raises
    ------
    SpecError
        No such model, or none of that name in production.
    DataError
        A file of the bundle is lost, added or changed, or of a type that isn't loaded; or the model is blocked, since
        somebody withdrew whose values it holds.
    """
    return load_file(cohort.files, bundle_file(cohort, ref))


def bundle_file(cohort: Cohort, ref: str) -> BundleFile:
    """Where the bundle of a model lies. See `load`."""
    result = cohort.find_model(ref)
    refuse_blocked(result.ref, result.meta)
    found = result.record.files.get(BUNDLE)
    if not isinstance(found, BundleFile):
        raise DataError(f"{result.ref} has no bundle in the catalogue; restore it from a backup")
    return found


def load_file(files: Files, file: BundleFile) -> Bundle:
    """A bundle by its file: every byte is checked, and what was made of the same bytes before is taken again."""
    blobs, facts = read_bundle(files, file)
    found = _loaded.pop(file.hash, None) or Bundle.from_blobs(blobs, facts, file.hash)
    _loaded[file.hash] = found
    while len(_loaded) > MOST_LOADED:
        _loaded.pop(next(iter(_loaded)))
    return found


# -- arrays as bytes ----------------------------------------------------------------------------------------------


def pack(arrays: Arrays) -> bytes:
    """Arrays as an uncompressed NPZ without pickle; text as UTF-8. Equal arrays give equal bytes."""
    plain: dict[str, NDArray[Any]] = {}
    for name in sorted(arrays):
        value = np.asarray(arrays[name])
        if value.dtype.kind in "UO":
            cells = [str(one).encode() for one in value.ravel().tolist()]
            plain[f"{name}|text"] = np.frombuffer(b"".join(cells), dtype=np.uint8)
            plain[f"{name}|ends"] = np.cumsum([len(one) for one in cells], dtype=np.int64)
            plain[f"{name}|shape"] = np.array(value.shape, dtype=np.int64)
        else:
            plain[name] = np.ascontiguousarray(value, dtype=value.dtype.newbyteorder("<")).reshape(value.shape)
    stream = io.BytesIO()
    np.savez(stream, **plain)  # type: ignore[arg-type]
    return stream.getvalue()


def unpack(blob: bytes) -> dict[str, NDArray[Any]]:
    """The reverse of `pack`; text comes as str.

    Raises
    ------
    DataError
        It holds objects, or is no NPZ.
    """
    try:
        with np.load(io.BytesIO(blob), allow_pickle=False) as opened:
            plain = {name: opened[name] for name in opened.files}
    except (ValueError, OSError) as error:
        raise DataError(f"arrays of the model can't be read: {error}") from error
    found: dict[str, NDArray[Any]] = {}
    for name, value in plain.items():
        head, mark, part = name.rpartition("|")
        if not mark:
            found[name] = value
        elif part == "text":
            content, ends = value.tobytes(), plain[f"{head}|ends"].tolist()
            cells = [content[a:b].decode() for a, b in zip([0, *ends], ends, strict=False)]
            text = np.array(cells, dtype=str) if cells else np.empty(0, dtype="U1")
            found[head] = text.reshape(tuple(plain[f"{head}|shape"]))
    return found


# -- nobody is named ---------------------------------------------------------------------------------------------------


def nameless(chain: Chain) -> Chain:
    """The chain without the ids of samples that it was fitted on: what `apply` does stays, bit for bit."""
    steps = []
    for method, parameters in chain.steps:
        changed = {
            one.name: None
            for one in dataclasses.fields(method)  # type: ignore[arg-type]
            if one.name in _NAMES_SAMPLES and getattr(method, one.name) is not None
        }
        if changed:
            method = dataclasses.replace(method, **changed)  # type: ignore[type-var]
        kept = {
            name: np.array("a reference sample") if name in _NAMES_SAMPLES else value
            for name, value in parameters.items()
        }
        steps.append((method, kept))
    return dataclasses.replace(chain, steps=tuple(steps), reference_samples=(), facts={}, extra={})


def training_record(cohort: Cohort, samples: Collection[str], persons: Collection[str]) -> dict[str, NDArray[Any]]:
    """Who was trained on, as hashes that nobody without the cohort's key can make or check, each list sorted."""
    with cohort.catalogue.read() as connection:
        key = id_key(connection)
    ids = {"samples": samples, "persons": persons}
    return {name: np.array(sorted(keyed_hash(key, one) for one in set(some)), dtype=str) for name, some in ids.items()}
