"""`python -m sjd_dask.cli` is `sjd`."""

from __future__ import annotations

from sjd_dask.cli.app import main

if __name__ == "__main__":
    main()
