"""What nobody asks for: forgetting what has expired. Safe to run from several gateways at once."""

from app.resources import Resources
from app.stores import checkpoints, records
from app.stores.blobs import address

_KEEP_S = 7 * 86_400.0  # idempotency keys and webhook deliveries; senders retry for days, not weeks


def tidy(resources: Resources) -> int:
    """Forget expired uploads with their parts, old keys, deliveries and checkpoints; return how many uploads went."""
    with resources.database.transaction() as tx:
        ids = records.forget_expired(tx, _KEEP_S)
        gone = checkpoints.forget_old(tx, resources.settings.checkpoint_keep_s)
    resources.blobs.delete([address(sha256) for sha256 in gone])
    for upload_id in ids:
        resources.blobs.delete_upload(upload_id)
    return len(ids)
