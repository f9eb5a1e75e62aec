"""Where a job stands: stages with weights, an overall share and the time left. Knows no technique."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from app.contracts.report import CurvePoint
from workers.compute.channel import Channel

_QUIET_S = 0.25  # at most four messages a second, training points aside
_FORETELL_FROM = 0.03  # a share below this says little about the rest


@dataclass(frozen=True)
class Stage:
    """A part of the job and its share of the work, in any unit."""

    name: str
    weight: float


@dataclass
class Route:
    """Walks the stages in order and says where it is."""

    channel: Channel
    stages: Sequence[Stage]
    _at: int = -1
    _said: float = field(default=0.0)
    _started: float = field(default_factory=time.monotonic)

    def enter(self) -> None:
        """Begin the next stage."""
        self._at += 1
        self._said = 0.0
        self.tell(0.0, None)

    def skip(self, stages: int) -> None:
        """Pass over stages that an earlier process went through."""
        self._at += stages

    def enter_last(self) -> None:
        """Begin the last stage, past those that did not come about."""
        self._at = len(self.stages) - 2
        self.enter()

    def tell(self, share: float, point: CurvePoint | None, part: str | None = None) -> None:
        """Say how much of the present stage is done, 0 to 1, a training point if there is one, which part begins."""
        now = time.monotonic()
        if point is None and part is None and now - self._said < _QUIET_S:
            return
        self._said = now
        total = sum(stage.weight for stage in self.stages)
        behind = sum(stage.weight for stage in self.stages[: self._at])
        overall = (behind + self.stages[self._at].weight * min(max(share, 0.0), 1.0)) / total
        elapsed = now - self._started
        eta_s = elapsed / overall * (1 - overall) if overall >= _FORETELL_FROM else None
        self.channel.progress(self.stages[self._at].name, overall, eta_s, point, part)
