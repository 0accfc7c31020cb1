"""A driver that can be started, watched and killed: `python runtime_driver.py COHORT CLUSTER SECONDS`.

Prints one JSON line; its exit code is that of the command line.
"""

from __future__ import annotations

import json
import sys


def main() -> int:
    # Imported here: the worker processes import this script too, and don't need any of it.
    from runtime_scene import drive

    from sjd_dask.errors import SjdError
    from sjd_dask.runtime.cluster import Cluster, open_cluster
    from sjd_dask.store.cohort import open_cohort

    path, cluster, seconds = sys.argv[1:4]
    try:
        cohort = open_cohort(path)
        opened: list[Cluster] = []

        def opening() -> Cluster:
            opened.append(open_cluster(cluster, workers=2 if cluster == "local" else None))
            return opened[0]

        try:
            session, report = drive(cohort, opening, float(seconds))
        finally:
            for item in opened:
                item.close()
    except SjdError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code
    print(json.dumps({"run": session.run_id, "published": session.published, "n_run": report.n_run if report else 0}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
