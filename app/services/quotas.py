"""How much a tenant may have open, waiting and stored at once."""

from app.errors import QuotaExceeded, ServiceBusy, StorageQuotaExceeded
from app.services.caller import Caller
from app.stores import records, waiting

_RETRY_AFTER_S = 30
_RETRY_UPLOAD_S = 60


def refuse_over_quota(tx: records.Transaction, caller: Caller) -> None:
    """Raise QuotaExceeded when the tenant has as much unfinished work as it may have, ServiceBusy when all have."""
    settings, headroom = caller.resources.settings, caller.resources.headroom
    allowed = settings.max_queued_per_tenant
    if not headroom.take(f"tenant {caller.tenant}", allowed, lambda: waiting.of_tenant(tx, caller.tenant)):
        msg = f"{allowed} checks, jobs and benchmarks are unfinished. Wait for some of them to end."
        raise QuotaExceeded(msg, retry_after_s=_RETRY_AFTER_S)
    if not headroom.take("all", settings.max_queued, lambda: sum(waiting.per_queue(tx).values())):
        raise ServiceBusy(retry_after_s=_RETRY_AFTER_S)


def refuse_more_uploads(tx: records.Transaction, caller: Caller) -> None:
    """Raise QuotaExceeded when the tenant has as many unfinished uploads as it may have."""
    allowed = caller.resources.settings.max_open_uploads_per_tenant
    if records.open_uploads(tx, caller.tenant) >= allowed:
        msg = f"{allowed} uploads are open. Finish or delete some of them."
        raise QuotaExceeded(msg, retry_after_s=_RETRY_UPLOAD_S)


def refuse_more_bytes(tx: records.Transaction, caller: Caller, more: int) -> None:
    """Raise StorageQuotaExceeded when `more` bytes do not fit beside what the tenant stores."""
    allowed = caller.resources.settings.max_stored_bytes_per_tenant
    stored = records.stored_bytes(tx, caller.tenant)
    if stored + more > allowed:
        msg = f"Uploads, models and data sets may have {allowed} bytes together, and have {stored}."
        raise StorageQuotaExceeded(msg)
