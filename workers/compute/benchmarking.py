"""A benchmark order: a candidate against the original over batch sizes, threads and one provider."""

import json
from collections import defaultdict
from pathlib import Path

import onnxruntime as ort

from app.contracts.benchmark import BenchmarkCreate, BenchmarkResult, Contestant, OperatorTime
from app.contracts.report import Estimate, Latency
from app.contracts.tasks import BenchmarkOrder, Done
from app.errors import RuntimeRefused
from workers.compute import bundles
from workers.compute.channel import Channel
from workers.compute.environment import environment
from workers.compute.feeds import Feed, feeds_for
from workers.compute.memory import loading
from workers.compute.runtime import SessionOptions, open_session, translated
from workers.compute.signature import Signature, signature_of
from workers.compute.timing import Racer, Setting, race

PROFILED_CALLS = 5


def run(order: BenchmarkOrder, scratch: Path, channel: Channel) -> Done:
    """Time both files with made-up rows; raises RuntimeRefused, ModelUnsupported."""
    spec = order.spec
    if spec.provider == "cuda" and "CUDAExecutionProvider" not in ort.get_available_providers():
        raise RuntimeRefused("This worker has no CUDA; time the model with provider cpu.")
    candidate_path, original_path = (
        bundles.opened(scratch / path, scratch / "models" / name)
        for name, path in (("candidate", order.candidate), ("original", order.original))
    )
    paths = (candidate_path, original_path)
    threads = [spec.threads] if isinstance(spec.threads, int) else list(dict.fromkeys(spec.threads))
    ours, theirs, speedups = _races(paths, spec, threads, channel)
    channel.progress("profiling", 0.9)
    options = SessionOptions(threads=threads[0], provider=spec.provider)
    candidate = _contestant(paths[0], ours, options, scratch)
    original = _contestant(paths[1], theirs, options, scratch)
    return Done(
        benchmark=BenchmarkResult(
            candidate=candidate,
            original=original,
            size_ratio=original.file_bytes / candidate.file_bytes,
            speedups=speedups,
            environment=environment(max(threads), spec.provider),
        )
    )


def _races(
    paths: tuple[Path, Path], spec: BenchmarkCreate, threads: list[int], channel: Channel
) -> tuple[list[Latency], list[Latency], dict[str, Estimate]]:
    ours: list[Latency] = []
    theirs: list[Latency] = []
    speedups: dict[str, Estimate] = {}
    total = len(threads) * len(set(spec.batch_sizes))
    for count in threads:
        options = SessionOptions(threads=count, provider=spec.provider)
        sessions = [open_session(path, options) for path in paths]
        signatures = [signature_of(session) for session in sessions]
        for size in _sizes(signatures, list(dict.fromkeys(spec.batch_sizes))):
            channel.progress(f"timing batch {size}, {count} threads", 0.9 * len(ours) / total)
            candidate, original = (
                Racer(session, feeds_for(signature, size, None))
                for session, signature in zip(sessions, signatures, strict=True)
            )
            setting = Setting(size, count, spec.provider)
            fast, slow = race(candidate, original, setting, spec.max_seconds / total)
            ours.append(fast)
            theirs.append(slow)
            if fast.ratio is not None:
                speedups[f"{size}@{count}"] = fast.ratio
    return ours, theirs, speedups


def _sizes(signatures: list[Signature], wanted: list[int]) -> list[int]:
    """Return the batch sizes that both files can run: a fixed batch axis leaves only that one."""
    fixed = {signature.fixed_batch for signature in signatures} - {None}
    if len(fixed) > 1:
        raise RuntimeRefused("The two models fix different batch sizes, so they cannot be compared.")
    return [size for size in fixed if size is not None] or wanted


def _contestant(path: Path, latency: list[Latency], options: SessionOptions, scratch: Path) -> Contestant:
    load_ms, resident = loading(path, options)
    return Contestant(
        file_bytes=bundles.size_bytes(path),
        load_ms=load_ms,
        resident_bytes=resident,
        latency=latency,
        profile=profile(path, options, scratch, latency[0].batch_size),
    )


def profile(path: Path, options: SessionOptions, scratch: Path, batch_size: int) -> list[OperatorTime]:
    """Return the time of each kind of operator in one pass, longest first."""
    profiled = SessionOptions(options.threads, options.provider, profile=scratch / f"profile-{path.stem}")
    session = open_session(path, profiled)
    feeds: list[Feed] = feeds_for(signature_of(session), batch_size, None)
    with translated("run"):
        for turn in range(PROFILED_CALLS):
            session.run(None, feeds[turn])
    found = Path(session.end_profiling())
    events = json.loads(found.read_text("utf-8"))
    found.unlink()
    return _operator_times(events)


def _operator_times(events: list[dict[str, object]]) -> list[OperatorTime]:
    spent: dict[tuple[str, str], float] = defaultdict(float)
    calls: dict[tuple[str, str], int] = defaultdict(int)
    for event in events:
        arguments = event.get("args")
        if not isinstance(arguments, dict) or not str(event.get("name", "")).endswith("_kernel_time"):
            continue
        key = (str(arguments.get("op_name", "?")), str(arguments.get("provider", "?")))
        spent[key] += float(str(event.get("dur", 0)))
        calls[key] += 1
    total = sum(spent.values()) or 1.0
    return [
        OperatorTime(
            operator=key[0],
            provider=key[1].removesuffix("ExecutionProvider").lower(),
            calls=round(calls[key] / PROFILED_CALLS),
            share=time / total,
            microseconds=time / PROFILED_CALLS,
        )
        for key, time in sorted(spent.items(), key=lambda item: (-item[1], item[0]))
    ]
