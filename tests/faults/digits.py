"""A real job for fault runs: a tiny network for handwritten digits, retrained and shared by the real child."""

import hashlib
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

from examples.networks import residual_cnn
from tests.faults.client import Client
from tests.faults.cluster import Cluster, end
from tests.stand_in import stack

STEPS = [
    {"technique": "retrain", "epochs": 2, "learning_rate": 0.003},
    {"technique": "share_weights", "clusters": 16, "epochs": 0.5},
]
RAW = {"Content-Type": "application/octet-stream"}


@contextmanager
def worker(cluster: Cluster) -> Iterator[None]:
    """Let one real worker stand in for the stand-ins."""
    for process in cluster.workers:
        end(process)
    cluster.workers = []
    process = stack.start_worker(
        cluster.settings, module="workers.main", extra={"MODELPRESS_CHILD_MEMORY_BYTES": str(8 << 30)}
    )
    cluster.workers.append(process)
    try:
        yield
    finally:
        end(process)


def request(client: Client) -> dict[str, Any]:
    """Upload and check the model and the data; return the body of the job."""
    content = io.BytesIO()
    found = load_digits()
    images = (found.images / 16).astype(np.float32)[:, None]
    np.savez(content, image=images, label=found.target.astype(np.int64))
    network = residual_cnn((16,), 1, 8, 10).SerializeToString()
    model = _checked(client, "models?format=onnx", network)
    dataset = _checked(client, "datasets?format=npz", content.getvalue())
    return {"model": model, "dataset": dataset, "recipe": {"version": 1, "steps": STEPS}, "seed": 3}


def _checked(client: Client, path: str, content: bytes) -> str:
    made = client.insist("POST", f"/v1/{path}", content=content, headers=RAW).json()
    where = f"/v1/{path.partition('?')[0]}/{made['id']}"
    stack.until(lambda: client.insist("GET", where).json()["state"] == "ready", 120)
    return str(made["id"])


def submit(client: Client, body: dict[str, Any]) -> str:
    job = client.submit(**body)
    assert job is not None
    return job


def packed(client: Client, ended: dict[str, Any]) -> str:
    """Return the digest of the file that the job published."""
    assert ended["state"] == "succeeded", json.dumps(ended["error"])
    answer = client.insist("GET", f"/v1/artifacts/{ended['artifact']}/content", headers={"Accept-Encoding": "identity"})
    return hashlib.sha256(answer.content).hexdigest()
