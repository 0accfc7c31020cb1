"""What an ingest did, for people and for scripts."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from sjd_dask.store.ingest.ids import name_some


@dataclass
class IngestReport:
    """What one ingest did.

    Attributes
    ----------
    assay, quantity, matrix : str
    status : {'published', 'staged', 'unchanged'}
        'unchanged': every sample was there already with the same content; no segment was written. 'staged': written,
        and not published yet.
    segment_id : str or None
        The new segment, or the one that already holds the content.
    snapshot : int or None
        The view that shows it; None where nothing changed.
    n_samples, n_features : int
        Of the matrix as stored.
    new, replaced, unchanged : list of str
        Sample ids.
    n_withdrawn : int
        Samples that were left out because their people were withdrawn. Nothing else here counts or names them.
    encoding : dict
        dtype, scale_factor, fill_value.
    encoding_error : float
        Largest difference that the encoding makes; 0 where it keeps every digit of the source's type.
    n_missing : int
        Missing values in the matrix.
    high_missing : dict
        Share of missing values of the samples above the warning limit.
    features_dropped, features_absent : int
        Features left out, and features of the assay without values here, as the feature table declared.
    features_permuted : bool
        Were features in another order than in the assay?
    not_in_sheet, only_in_sheet : list of str
        Ids without a partner after the join with the sample sheet.
    warnings : list of str
    n_bytes : int
        Bytes of the new segment.
    seconds : float
    """

    assay: str
    quantity: str
    matrix: str
    status: Literal["published", "staged", "unchanged"] = "published"
    segment_id: str | None = None
    snapshot: int | None = None
    n_samples: int = 0
    n_features: int = 0
    new: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    n_withdrawn: int = 0
    encoding: dict[str, Any] = field(default_factory=dict)
    encoding_error: float = 0.0
    n_missing: int = 0
    high_missing: dict[str, float] = field(default_factory=dict)
    features_dropped: int = 0
    features_absent: int = 0
    features_permuted: bool = False
    not_in_sheet: list[str] = field(default_factory=list)
    only_in_sheet: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    n_bytes: int = 0
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The report in short lines, without its warnings."""
        if self.status == "unchanged" and not self.n_samples:
            lines = [f"{self.assay}: nothing was written"]
        elif self.status == "unchanged":
            lines = [
                f"{self.assay}: unchanged: all {self.n_samples:,} samples of {self.matrix} are there with the same "
                f"content "
                f"(segment {self.segment_id}); nothing was written"
            ]
            if self.snapshot is not None:
                lines.append(f"sample columns were updated (snapshot {self.snapshot})")
        else:
            done = "staged" if self.snapshot is None else "published"
            where = "" if self.snapshot is None else f" in snapshot {self.snapshot}"
            lines = [
                f"{self.assay}: {done} segment {self.segment_id}{where}: {len(self.new):,} "
                f"new and "
                f"{len(self.replaced):,} replaced samples x {self.n_features:,} features of {self.quantity}, "
                f"{self.n_bytes:,} bytes"
            ]
            if self.unchanged:
                lines.append(
                    f"{len(self.unchanged):,} samples were there with the same content: {name_some(self.unchanged)}"
                )
        if self.n_withdrawn:
            lines.append(f"{self.n_withdrawn:,} samples of withdrawn people were left out")
        error = f", error at most {self.encoding_error:.2g}" if self.encoding_error else ""
        lines.append(f"stored as {self.encoding.get('dtype')}{error}; {self.n_missing:,} missing values")
        if self.features_permuted:
            lines.append("features came in another order and were matched by id")
        if self.features_dropped or self.features_absent:
            lines.append(
                f"feature table: {self.features_dropped:,} features of the matrix left out, "
                f"{self.features_absent:,} features of "
                "the assay without values here"
            )
        return lines
