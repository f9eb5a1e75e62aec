"""The child's one way to speak: a message per line on the real standard output. Knows no job and no queue."""

import os
import sys
from dataclasses import dataclass
from typing import TextIO

from app.contracts.report import CurvePoint
from app.contracts.tasks import Done, Failed, Kept, Log, Progress


@dataclass(frozen=True)
class Channel:
    """Writes messages as JSON lines."""

    stream: TextIO

    def say(self, message: Progress | Log | Kept | Failed | Done) -> None:
        """Write one message and flush, so that the supervisor sees it at once."""
        self.stream.write(message.model_dump_json() + "\n")
        self.stream.flush()

    def progress(
        self,
        stage: str,
        share: float,
        eta_s: float | None = None,
        point: CurvePoint | None = None,
        part: str | None = None,
    ) -> None:
        """Say how much of the whole order is done; `share` is clipped to 0–1."""
        self.say(Progress(stage=stage, progress=min(max(share, 0.0), 1.0), eta_s=eta_s, point=point, part=part))

    def log(self, message: str) -> None:
        """Say a line for people."""
        self.say(Log(message=message))


def take_stdout() -> Channel:
    """Keep standard output for messages alone: whatever a library prints from now on goes to standard error."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    return Channel(os.fdopen(kept, "w", encoding="utf-8"))
