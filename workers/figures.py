"""What one worker process counts, and where Prometheus fetches it. Knows no job and no store.

One registry in one process is all it takes: the pool has threads, which share it, and whatever may crash or be killed
is a child, whose end is counted here. So nothing is written to disk, nothing is added up over processes and nothing is
left behind. A worker that is killed begins again at zero, which Prometheus' `rate` and `increase` know how to read;
what must outlive it comes from the database, at the gateway.
"""

import re
import time
from collections.abc import Callable

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram, start_http_server

from app.contracts.report import Report
from app.contracts.steps import SPECS
from app.contracts.tasks import Queue
from app.settings import Settings
from app.traces import Drops, Off, Traces

# Seconds, from the reading of a small upload to a training over night.
_SECONDS = (0.1, 0.3, 1, 3, 10, 30, 60, 180, 600, 1_800, 3_600, 14_400, 43_200)
_TIMES_SMALLER = (0.5, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 128, 256)
_MOST_BYTES = 1 << 62
OTHER = "other"
# What children call their stages, without numbers; each step's is its technique's name.
_STAGES = frozenset(
    {
        "reading", "opening in ONNX Runtime", "measuring the original", "packing", "measuring the result",
        "looking for sensitive layers", "ranking layers", "asking the original", "profiling", "timing",
    }
)  # fmt: skip
_STEP = re.compile(r"(?:(control) [a-z ]+)?[0-9]+/[0-9]+ ([a-z0-9_]+)")


class Figures:
    """Counts of this process; made once and shared by its threads."""

    def __init__(self, traces: Traces | None = None) -> None:
        """Begin at zero."""
        self.registry = CollectorRegistry()
        self.registry.register(Drops(traces or Off()))
        self._exits = Counter(
            "modelpress_child_exits", "ended compute children by cause", ("queue", "cause"), registry=self.registry
        )
        self._stages = Histogram(
            "modelpress_stage_seconds", "time in a stage", ("stage",), buckets=_SECONDS, registry=self.registry
        )
        self._ratios = Histogram(
            "modelpress_compression_ratio",
            "bytes of the original over bytes of the artifact, of jobs that succeeded",
            buckets=_TIMES_SMALLER,
            registry=self.registry,
        )

    def attempt(self, queue: Queue) -> "Attempt":
        """Begin to listen to one child."""
        return Attempt(
            lambda cause: self._exits.labels(queue.value, cause).inc(),
            lambda stage, seconds: self._stages.labels(stage).observe(seconds),
        )

    def succeeded(self, report: Report) -> None:
        """Note how much smaller a job made its model, by the child's word: sizes that cannot be are left out."""
        before, after = report.before.file_bytes, report.after.file_bytes
        if 0 < before <= _MOST_BYTES and 0 < after <= _MOST_BYTES:
            self._ratios.observe(before / after)


class Attempt:
    """One child's stages, one after the other, and its end."""

    def __init__(
        self,
        count: Callable[[str], None],
        observe: Callable[[str, float], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Hear of the first stage when the child says so; what it does before that belongs to none."""
        self._count, self._observe, self._clock = count, observe, clock
        self._stage, self._since = "", 0.0

    def enters(self, stage: str) -> None:
        """Note that the child says it is in this stage, which it says again and again."""
        if stage == self._stage:
            return
        self._leave()
        self._stage, self._since = stage, self._clock()

    def ends(self, cause: str) -> None:
        """Note how the child ended."""
        self._leave()
        self._count(cause)

    def _leave(self) -> None:
        if self._stage:
            self._observe(stage_name(self._stage), self._clock() - self._since)
            self._stage = ""


def stage_name(said: str) -> str:
    """Return the stage without numbers; `other` for what no child of ours says, so that there are few of them."""
    step = _STEP.fullmatch(said)
    if step is not None and step[2] in SPECS:
        return f"control {step[2]}" if step[1] else step[2]
    if said.startswith("trying ") and said.removeprefix("trying ") in SPECS:
        return said
    name = "timing" if said.startswith("timing batch ") else said
    return name if name in _STAGES else OTHER


def serve(figures: Figures, settings: Settings) -> None:
    """Answer Prometheus from a thread, if the settings name a port. A port that is taken stops no work."""
    if not settings.metrics_port:
        return
    log = structlog.get_logger(__name__)
    try:
        start_http_server(settings.metrics_port, settings.metrics_host, figures.registry)
    except OSError as error:
        log.error("no figures are served", port=settings.metrics_port, reason=error.strerror)  # noqa: TRY400
        return
    log.info("figures are served", host=settings.metrics_host, port=settings.metrics_port)
