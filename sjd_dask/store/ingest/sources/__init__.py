"""Readers of matrices: one file for each format, all of them a `MatrixSource`."""

from __future__ import annotations

from pathlib import Path

from sjd_dask.errors import DataError, SpecError
from sjd_dask.store.ingest.sources.base import Block, MatrixSource, Orientation, SourceOptions

__all__ = ["Block", "MatrixSource", "Orientation", "SourceOptions", "open_source"]


def open_source(path: Path | str, options: SourceOptions | None = None) -> MatrixSource:
    """Open a matrix of any known format, told by its suffix (text: by its content).

    .tsv, .csv, .txt, .tab (each also .gz); GEO series matrices among them; .parquet; .h5ad; .npz; a folder with a
    Zarr group.

    Raises
    ------
    DataError
        No such file, an unknown format, a damaged file.
    """
    path = Path(path)
    options = options or SourceOptions()
    suffix = path.suffix.lower()
    if not path.exists():
        raise DataError(f"there is no file {path}.")
    for name, given in (("scale", options.scale), ("missing", options.missing)):
        if given is not None and (suffix != ".npz" or path.is_dir()):
            raise SpecError(f"{name} is an option of NPZ files only, and {path.name} is not one.")
    if options.layer is not None and suffix not in (".h5ad", ".h5") and not path.is_dir():
        raise SpecError(f"layer is an option of h5ad files and Zarr groups only, and {path.name} is neither.")
    # Formats are imported when used: h5py, pyarrow and xarray take their time.
    if path.is_dir():
        from sjd_dask.store.ingest.sources.zarr_group import open_zarr

        return open_zarr(path, options)
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty (0 bytes).")
    if suffix == ".npz":
        from sjd_dask.store.ingest.sources.npz import open_npz

        return open_npz(path, options)
    if suffix in (".h5ad", ".h5"):
        from sjd_dask.store.ingest.sources.h5ad import open_h5ad

        return open_h5ad(path, options)
    if suffix in (".parquet", ".pq"):
        from sjd_dask.store.ingest.sources.parquet import open_parquet

        return open_parquet(path, options)
    if suffix in (".xls", ".xlsx", ".rds", ".rdata", ".rda", ".idat", ".mtx", ".pkl", ".pickle", ".zip"):
        raise DataError(
            f"{path}: {suffix} files are not read. Use .tsv or .csv (also .gz), .parquet, .h5ad, .npz, a Zarr group "
            f"or a "
            "GEO series matrix."
        )
    from sjd_dask.store.ingest.sources.geo import is_series_matrix, open_geo
    from sjd_dask.store.ingest.sources.text import open_text

    return open_geo(path, options) if is_series_matrix(path) else open_text(path, options)
