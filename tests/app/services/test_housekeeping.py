import httpx

from app.resources import Resources
from app.services import housekeeping
from app.stores.tables import idempotency_keys, upload_parts, uploads
from tests.app.acting_worker import ActingWorker
from tests.app.seeds import job_body, ready_model

OPEN = {"Upload-Complete": "?0"}


async def test_expired_uploads_go_with_their_parts(client: httpx.AsyncClient, resources: Resources) -> None:
    upload = (await client.post("/v1/uploads", content=b"abc", headers=OPEN)).json()["id"]
    with resources.database.transaction() as tx:
        tx.execute(uploads.update().values(expires_at=1.0))
        key = tx.execute(upload_parts.select()).one().key
    kept = (await client.post("/v1/uploads", content=b"abc", headers=OPEN)).json()["id"]

    gone = housekeeping.tidy(resources)

    assert gone == 1
    assert resources.blobs._head(key) is None
    assert (await client.head(f"/v1/uploads/{upload}")).status_code == 404
    assert (await client.head(f"/v1/uploads/{kept}")).status_code == 204


async def test_old_keys_are_forgotten(client: httpx.AsyncClient, worker: ActingWorker, resources: Resources) -> None:
    model = await ready_model(client, worker)
    for key in ("old", "new"):
        await client.post("/v1/jobs", json=job_body(model), headers={"Idempotency-Key": key})
    with resources.database.transaction() as tx:
        tx.execute(idempotency_keys.update().where(idempotency_keys.c.key == "old").values(at=1.0))

    housekeeping.tidy(resources)

    with resources.database.reading() as tx:
        assert [row.key for row in tx.execute(idempotency_keys.select())] == ["new"]
