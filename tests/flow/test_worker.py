import signal

from app.resources import Resources
from app.stores import records
from app.stores.tables import models
from tests.stand_in import stack


def test_work_is_done_and_published_when_its_doorbell_rings(resources: Resources) -> None:
    broker, worker = stack.start_broker(resources.settings.data_dir), stack.start_worker(resources.settings)
    try:
        model_id = stack.add_model(resources, {"steps": 2})
        row = stack.ended(resources, model_id)
        with resources.database.reading() as tx:
            model = records.get(tx, models, "tenant", model_id)
    finally:
        code = stack.kill(worker, signal.SIGTERM)
        stack.kill(broker)
    assert (row.state, row.attempt, row.losses, row.sandbox) == ("succeeded", 1, 0, "full")
    assert model["onnx_sha256"] == model["sha256"]
    assert resources.blobs.zstd_size(model["onnx_sha256"])
    assert stack.states(resources, model_id) == ["queued", "running", "succeeded"]
    assert code == 0
    assert not list(resources.settings.scratch.iterdir())
