"""Plays the worker's part to the end of a job: events, files, artifact and report, through the stores."""

import hashlib
import os
from datetime import UTC, datetime
from pathlib import Path

from app.contracts.artifact import Artifact, Variant
from app.contracts.base import new_id
from app.contracts.causes import ClassDrop, GuardCauses, Repair, RestoredLayer, StepDrop, TurnedRow
from app.contracts.job import Event, Job, JobState
from app.contracts.problem import Problem
from app.contracts.report import (
    Change,
    ControlReport,
    CurvePoint,
    Environment,
    Estimate,
    Latency,
    Measurement,
    Quality,
    Report,
    StepReport,
    TensorReport,
)
from app.contracts.search import Search
from app.stores import results, work
from app.stores.work import Claim
from modelpress import Client
from tests.app.acting_worker import ActingWorker
from tests.app.searches import SENSITIVITY

DIGEST = "c" * 64
VERDICT = "7.8× smaller, 3.1× faster at batch 1, accuracy −0.3 points: no measurable difference"


def started_job(client: Client, worker: ActingWorker, folder: Path) -> tuple[Job, Claim]:
    """Upload, accept, submit and claim: a running job."""
    source = folder / f"{new_id('upl')}.onnx"
    source.write_bytes(b"\x08\x0a" + os.urandom(1000))
    model = client.upload_model(source, wait=False, name="residual-cnn.onnx")
    worker.accept_model(model.id)
    data = folder / "data.npz"
    data.write_bytes(b"PK\x03\x04" + os.urandom(100))
    dataset = client.upload_dataset(data, wait=False)
    worker.accept_dataset(dataset.id)
    steps = ["prune_layers:keep=2", "distill:epochs=2", "share_weights:clusters=16"]
    job = client.submit(model, steps, dataset, seed=7)
    return job, worker.claim(job.id)


def say(worker: ActingWorker, held: Claim, **fields: object) -> None:
    """Append one event and move the figures of the job."""
    event = Event.model_validate({"id": 1, "at": datetime.now(UTC), "kind": "progress", **fields})
    figures = {"stage": event.stage, "progress": event.progress or 0.0, "eta_s": event.eta_s, "sandbox": "full"}
    document = event.model_dump(mode="json", exclude={"id", "at"})
    with worker.resources.database.transaction() as tx:
        assert work.progress(tx, held, figures, [document])


def train(worker: ActingWorker, held: Claim, stage: str, points: int = 12) -> None:
    """Leave a training curve that falls."""
    for number in range(points):
        share = (number + 1) / points
        point = CurvePoint(step=number * 50, epoch=2 * share, loss=1.2 * (1 - 0.7 * share) + 0.05 * (number % 3))
        if number % 3 == 2:
            point = point.model_copy(
                update={"validation_loss": 1.1 - 0.6 * share, "validation_score": 0.8 + 0.15 * share}
            )
        say(worker, held, kind="curve", stage=stage, progress=share / 2, eta_s=40 * (1 - share), point=point)


def publish(worker: ActingWorker, job: Job, held: Claim, content: bytes, found: Search | None = None) -> str:
    """End the job with an artifact of these bytes and return the artifact's id; `found` is of a job with a goal."""
    blobs = worker.resources.blobs
    variants = {}
    for name, body in (("packed", content), ("dense", content * 2)):
        path = worker.resources.settings.data_dir / f"{hashlib.sha256(body).hexdigest()}.tmp"
        path.write_bytes(body)
        stored = blobs.put_file(path)
        with path.open("rb") as file:
            zstd = blobs.make_zstd(stored.sha256, file)
        path.unlink()
        variants[name] = Variant(
            sha256=stored.sha256, size_bytes=stored.size_bytes, zstd_bytes=zstd.size_bytes, zstd_sha256=zstd.sha256
        )
    told = report().model_copy(update={"search": found})
    artifact = Artifact(
        id=new_id("art"),
        job=job.id,
        model=job.model,
        dataset=job.dataset,
        recipe=job.recipe or next(point.recipe for point in found.points if point.job == found.recommended),
        seed=job.seed,
        variants=variants,
        encodings={"codebook": 4, "dense": 2},
        measurement=told.after,
        verdict=told.verdict,
        created_at=datetime.now(UTC),
    )
    with worker.resources.database.transaction() as tx:
        results.record_artifact(tx, held.tenant, artifact, told)
        assert work.finish(tx, held, JobState.SUCCEEDED)
    return artifact.id


def estimate(value: float, spread: float) -> Estimate:
    return Estimate(value=value, low=value - spread, high=value + spread, samples=1000)


def measured(scale: float, accuracy: float) -> Measurement:
    timings = [
        Latency(
            batch_size=batch,
            threads=2,
            calls=200,
            p50_ms=batch * 4.2 * scale,
            p95_ms=batch * 5.0 * scale,
            p99_ms=batch * 6.1 * scale,
            throughput_per_s=1000 / (4.2 * scale),
        )
        for batch in (1, 8)
    ]
    return Measurement(
        parameters=int(11_000_000 * scale),
        nonzeros=int(10_900_000 * scale),
        macs=int(320_000_000 * scale),
        file_bytes=int(44_000_000 * scale * 0.4),
        zstd_bytes=int(40_000_000 * scale * 0.4),
        resident_bytes=int(60_000_000 * scale),
        load_ms=80 * scale + 20,
        latency=timings,
        quality=Quality(split="test", samples=1000, scores={"accuracy": estimate(accuracy, 0.012)}),
    )


def steps(after: Measurement) -> list[StepReport]:
    """Three steps, the first with a note."""
    return [
        StepReport(
            index=index,
            technique=name,
            options={"technique": name, "epochs": 2.0},
            duration_s=40.0 + index,
            changed=name != "distill",
            notes=["kept layers 0 and 5"] if index == 0 else [],
            measurement=after,
        )
        for index, name in enumerate(("prune_layers", "distill", "share_weights"))
    ]


def tensors() -> list[TensorReport]:
    """Six packed matrices."""
    return [
        TensorReport(
            name=f"encoder.layer.{number}.attention.self.query.weight",
            operator="MatMul",
            shape=[384, 384],
            parameters=147_456,
            nonzeros=140_000,
            unique_values=16,
            encoding="codebook",
            bits_per_weight=4.01,
            entropy_bits_per_weight=3.71,
            dense_bytes=589_824,
            packed_bytes=73_800,
            latency_share=0.12,
            snr_db=18.2,
            cosine=0.9924,
        )
        for number in range(6)
    ]


def report() -> Report:
    """A report with every part filled."""
    before, after = measured(1.0, 0.941), measured(0.32, 0.938)
    changes = [
        Change(
            figure="accuracy",
            before=0.941,
            after=0.938,
            difference=estimate(-0.003, 0.008),
            verdict="no measurable difference",
        ),
        Change(figure="file_bytes", before=before.file_bytes, after=after.file_bytes, ratio=7.8, verdict="better"),
        Change(
            figure="p50_ms@1",
            before=4.2,
            after=1.34,
            ratio=3.1,
            ratio_interval=estimate(3.1, 0.1),
            verdict="better",
        ),
        Change(figure="load_ms", before=100, after=145, ratio=0.69, verdict="worse"),
    ]
    environment = Environment(
        python="3.11.7",
        versions={"onnxruntime": "1.32.0", "torch": "2.13.0"},
        cpu="Example CPU",
        cpu_flags=["avx2", "avx512_vnni"],
        threads=2,
        device="cpu",
    )
    return Report(
        verdict=VERDICT,
        before=before,
        after=after,
        changes=changes,
        steps=steps(after),
        controls=[
            ControlReport(
                kind="without_teacher",
                steps=steps(after),
                file_bytes=6_500_000,
                quality=Quality(split="test", samples=1000, scores={"accuracy": estimate(0.902, 0.017)}),
                differences={"accuracy": estimate(0.036, 0.014)},
                duration_s=101.0,
            )
        ],
        tensors=tensors(),
        sensitivity=SENSITIVITY,
        notes=["The decode subgraphs add 45 ms to the first load."],
        seed=7,
        digests={"model": DIGEST, "packed": DIGEST},
        environment=environment,
        duration_s=127.0,
    )


def refuse(worker: ActingWorker, job: Job, held: Claim, problem: Problem, found: Search | None = None) -> None:
    """End the job as a failed guard does, with a report that says why; or as a goal that nothing meets."""
    why = {"search": found} if found else {"guard_causes": causes()}
    told = report().model_copy(update={"guard": problem, **why})
    with worker.resources.database.transaction() as tx:
        results.record_report(tx, job.id, told)
    worker.end(held, JobState.FAILED, problem)


def causes() -> GuardCauses:
    """What a drop came from, every part filled; a class bears a name that no page may take for markup."""
    return GuardCauses(
        metric="accuracy",
        before=0.94,
        after=0.81,
        max_drop=0.02,
        steps=[StepDrop(index=0, technique="ternarize", before=0.94, after=0.81)],
        classes=[ClassDrop(name="<b>cat", before=0.9, after=0.4, samples=60)],
        samples=[TurnedRow(row=38, label="<b>cat", before="<b>cat", after="dog")],
        rows=512,
        layers=[
            RestoredLayer(
                tensor="head.weight",
                operator="Gemm",
                relative_error=0.467,
                score=0.93,
                gain=0.12,
                dense_bytes=3840,
                packed_bytes=1030,
                meets=True,
            )
        ],
        repairs=[Repair(advice="Leave out `head.weight`.", tensors=["head.weight"], score=0.93, extra_bytes=2810)],
    )
