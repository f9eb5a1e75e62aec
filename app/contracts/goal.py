"""A goal in place of a recipe: what a compressed model has to keep, what it should be best at, and how long to look."""

from typing import Literal

from pydantic import Field

from app.contracts.base import Contract

MetricName = Literal["accuracy", "macro_recall", "macro_f1", "agreement", "r2"]
Objective = Literal["size", "latency", "memory"]
DeviceProfile = Literal["cpu-server", "cpu-edge", "mobile", "gpu"]


class Goal(Contract):
    """What to reach. Every bound holds for validation rows; the report also shows the test rows."""

    minimize: Objective = Field(
        "size", description="size: bytes of the file; latency: median time of one call; memory: that loading adds"
    )
    metric: MetricName | None = Field(
        None, description="default: accuracy, for regression r2, for the task match agreement with the original"
    )
    max_drop: float = Field(
        0.01, ge=0, le=1, description="most that the metric may lose, absolute: 0.01 is one percentage point"
    )
    max_recall_drop: float | None = Field(
        None, ge=0, le=1, description="most that the recall of any single class may lose, absolute"
    )
    max_size_bytes: int | None = Field(None, gt=0, description="most bytes of the file")
    max_p50_ms: float | None = Field(None, gt=0, description="most milliseconds of the median call, at `batch_size`")
    max_resident_bytes: int | None = Field(None, gt=0, description="most memory that loading the file may add")
    batch_size: Literal[1, 8] = Field(1, description="rows of a call, where latency is minimized or bounded")
    device: DeviceProfile = Field("cpu-server", description="what the result will run on")
    budget_s: int = Field(
        1800, ge=60, le=7 * 86_400, description="how long to look; the best that was found until then is the result"
    )

    def metric_of(self, task: str) -> MetricName:
        """Return the metric that is held, for a task."""
        if self.metric is not None:
            return self.metric
        defaults: dict[str, MetricName] = {"regression": "r2", "match": "agreement"}
        return defaults.get(task, "accuracy")
