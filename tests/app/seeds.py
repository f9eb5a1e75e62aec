"""Rows and bodies that many tests start from."""

import hashlib
from typing import Any

import httpx

from app.contracts.base import new_id
from app.contracts.job import JobState
from app.contracts.report import Report
from app.resources import Resources
from app.stores import records, work
from app.stores.tables import artifacts, jobs
from tests.app.acting_worker import ActingWorker

ONNX = b"\x08\x0a" + b"model bytes" * 100
RAW = {"Content-Type": "application/octet-stream"}
UNKNOWN = "0" * 26

MEASUREMENT = {"parameters": 10, "nonzeros": 10, "file_bytes": 2_000_000, "zstd_bytes": 1_500_000}
REPORT: dict[str, Any] = {
    "verdict": "5.1x smaller <b>and</b> 4.2x faster | no measurable difference in accuracy",
    "before": MEASUREMENT,
    "after": MEASUREMENT
    | {
        "file_bytes": 400_000,
        "latency": [
            {
                "batch_size": 1,
                "threads": 2,
                "calls": 900,
                "p50_ms": 0.5,
                "p95_ms": 0.6,
                "p99_ms": 0.8,
                "throughput_per_s": 2000,
                "ratio": {"value": 4, "low": 3.9, "high": 4.2, "samples": 900},
            }
        ],
        "quality": {
            "split": "test",
            "samples": 1200,
            "scores": {"accuracy": {"value": 0.979, "low": 0.97, "high": 0.985, "samples": 1200}},
            "recall_per_class": {"<b>cat": {"value": 0.9, "low": 0.8, "high": 0.95, "samples": 60}},
        },
    },
    "changes": [
        {"figure": "file_bytes", "before": 2_000_000, "after": 400_000, "ratio": 5, "verdict": "better"},
        {
            "figure": "p50_ms@1",
            "before": 2,
            "after": 0.5,
            "ratio": 4,
            "ratio_interval": {"value": 4, "low": 3.9, "high": 4.2, "samples": 900},
            "verdict": "better",
        },
        {
            "figure": "accuracy",
            "before": 0.98,
            "after": 0.979,
            "difference": {"value": -0.001, "low": -0.004, "high": 0.002, "samples": 1200},
            "verdict": "no measurable difference",
        },
    ],
    "steps": [
        {
            "index": 0,
            "technique": "share_weights",
            "options": {},
            "duration_s": 1.5,
            "changed": True,
            "notes": ["kept"],
            "measurement": MEASUREMENT
            | {
                "quality": {
                    "split": "validation",
                    "samples": 10,
                    "scores": {"accuracy": {"value": 0.9, "low": 0.8, "high": 1, "samples": 10}},
                }
            },
        }
    ],
    "controls": [
        {
            "kind": "without_teacher",
            "steps": [],
            "file_bytes": 390_000,
            "quality": {
                "split": "test",
                "samples": 1200,
                "scores": {"accuracy": {"value": 0.95, "low": 0.94, "high": 0.96, "samples": 1200}},
            },
            "differences": {"accuracy": {"value": 0.029, "low": 0.02, "high": 0.038, "samples": 1200}},
            "duration_s": 3,
        }
    ],
    "tensors": [
        {
            "name": "<script>alert(1)</script>|w",
            "operator": "MatMul",
            "shape": [4, 2],
            "parameters": 8,
            "nonzeros": 4,
            "unique_values": 3,
            "encoding": "codebook",
            "bits_per_weight": 4,
            "entropy_bits_per_weight": 1.5,
            "dense_bytes": 32,
            "packed_bytes": 10,
        }
    ],
    "notes": ["int8 is not faster on this processor: it has no VNNI"],
    "seed": 0,
    "digests": {"model": "a" * 64},
    "environment": {
        "python": "3.11",
        "versions": {"onnxruntime": "1.32.0"},
        "cpu": "a processor",
        "cpu_flags": ["avx2"],
        "threads": 2,
        "device": "cpu",
    },
    "duration_s": 12,
}


def job_body(model: str, **changes: Any) -> dict[str, Any]:
    return {"model": model, "recipe": {"steps": [{"technique": "share_weights"}]}, **changes}


async def ready_model(client: httpx.AsyncClient, worker: ActingWorker) -> str:
    model = (await client.post("/v1/models", content=ONNX, headers=RAW)).json()["id"]
    worker.accept_model(model)
    return str(model)


async def ready_dataset(client: httpx.AsyncClient, worker: ActingWorker) -> str:
    dataset = (await client.post("/v1/datasets?format=npz", content=b"PK npz", headers=RAW)).json()["id"]
    worker.accept_dataset(dataset)
    return str(dataset)


async def submitted_job(client: httpx.AsyncClient, model: str, **changes: Any) -> str:
    answer = await client.post("/v1/jobs", json=job_body(model, **changes))
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


async def stored(resources: Resources, content: bytes) -> str:
    async def chunks():  # type: ignore[no-untyped-def]  # noqa: ANN202 - one chunk
        yield content

    return (await resources.blobs.put_stream(chunks())).sha256


async def published(
    client: httpx.AsyncClient,
    worker: ActingWorker,
    packed: bytes = b"packed",
    dense: bytes = b"dense",
    tenant: str = "default",
) -> str:
    """Run a job to its end by hand and return its artifact's id."""
    model = await ready_model(client, worker)
    job = await submitted_job(client, model)
    held, artifact = worker.claim(job), new_id("art")
    variants = {
        name: {"sha256": await stored(worker.resources, content), "size_bytes": len(content), "zstd_bytes": 5}
        for name, content in (("packed", packed), ("dense", dense))
    }
    document = {
        "model": model,
        "recipe": {"steps": [{"technique": "share_weights"}]},
        "seed": 0,
        "variants": variants,
        "encodings": {"codebook": 1},
        "measurement": MEASUREMENT,
        "verdict": "smaller",
    }
    with worker.resources.database.transaction() as tx:
        records.add(tx, artifacts, tenant, artifact, {"document": document, "job_id": job})
        report = Report.model_validate(REPORT).model_dump(mode="json")
        records.change(tx, jobs, job, {"artifact_id": artifact, "report": report})
        assert work.finish(tx, held, JobState.SUCCEEDED)
    return artifact


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
