"""Worker processes on this machine."""

# mypy: disable-error-code="no-untyped-call,attr-defined,misc"

from __future__ import annotations

from typing import Any

import distributed
from distributed.deploy import SpecCluster


class LocalProcesses(distributed.LocalCluster):
    """A local cluster whose workers come back whenever they die.

    distributed's own one looks 15 s after a death whether a worker of that name is there, and closes its nanny for
    good if not. A worker that
    is just then coming back, because the machine is slow or because it died a second time, would be lost for the
    rest of the run.
    """

    def _update_worker_status(self, op: str, msg: Any) -> None:
        # The nanny restarts its worker; only the record of who is there is kept here.
        super(SpecCluster, self)._update_worker_status(op, msg)
