"""A benchmark order: a candidate against the original over batch sizes, threads and one provider."""

from pathlib import Path

import onnxruntime as ort

from app.contracts.benchmark import BenchmarkCreate, BenchmarkResult, Contestant
from app.contracts.report import Estimate, Latency
from app.contracts.tasks import BenchmarkOrder, Done
from app.errors import RuntimeRefused
from workers.compute import bundles
from workers.compute.channel import Channel
from workers.compute.environment import environment
from workers.compute.feeds import feeds_for
from workers.compute.memory import loading
from workers.compute.profiling import Subject, profile
from workers.compute.runtime import SessionOptions, open_session
from workers.compute.signature import Signature, signature_of
from workers.compute.timing import Racer, Setting, race


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
        profile=profile(Subject(path, options, latency[0].batch_size), scratch).operators,
    )
