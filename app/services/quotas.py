"""How much a tenant may have open at once."""

from app.errors import QuotaExceeded
from app.services.caller import Caller
from app.stores import records, work

_RETRY_AFTER_S = 30


def refuse_over_quota(tx: records.Transaction, caller: Caller) -> None:
    """Raise QuotaExceeded when the tenant has as much unfinished work as it may have."""
    allowed = caller.resources.settings.max_queued_per_tenant
    if work.count_queued(tx, caller.tenant) >= allowed:
        msg = f"{allowed} checks, jobs and benchmarks are unfinished. Wait for some of them to end."
        raise QuotaExceeded(msg, retry_after_s=_RETRY_AFTER_S)
