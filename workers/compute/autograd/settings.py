"""The settings of one training, and what may listen to it. Knows no loop."""

from collections.abc import Callable
from dataclasses import dataclass

from app.contracts.report import CurvePoint
from workers.compute.autograd.executor import Executor
from workers.compute.autograd.guiding import Guidance
from workers.compute.autograd.keeping import NOTHING, Keeper
from workers.compute.autograd.logits import Logits

Progress = Callable[[float, CurvePoint | None], None]
# Called before each step with its number and how many there are. Returns whether it will change the constraints again:
# until then, no state is one to stop at. What it remembers is of a training that began with step 0.
OnStep = Callable[[int, int, Executor], bool]
Finding = Callable[[str], None]


@dataclass(frozen=True)
class Fit:
    """Settings of one training. `epochs` may be a fraction; `patience` counts validations without a better one.

    Without a `learning_rate` a range test finds one, and `finding` hears of it. `alpha` weighs labels against the
    teacher, `warmup` is a share of all steps, `max_minutes` ends it early (a run that it ended is not repeatable bit
    for bit). `device` is a PyTorch device or "auto". `guidance` adds the teacher's inner values to the loss of each
    step; what is validated is answers alone. `logits` are what the teacher is known to answer. With `mixup` above 0,
    rows are mixed in shares drawn from Beta(mixup, mixup). `floor` is the validation score that somebody wants kept: a
    state that has it does not give way to one that has not. `keeper` keeps what was reached, and knows what was kept
    before.
    """

    epochs: float = 1.0
    learning_rate: float | None = 5e-5
    batch_size: int = 32
    weight_decay: float = 0.01
    patience: int | None = 3
    max_minutes: float | None = None
    alpha: float = 1.0
    temperature: float = 2.0
    warmup: float = 0.1
    validations_per_epoch: int = 2
    clip: float = 1.0
    mixup: float = 0.0
    floor: float | None = None
    seed: int = 0
    device: str = "cpu"
    threads: int = 2
    guidance: Guidance | None = None
    logits: Logits | None = None
    finding: Finding = lambda _words: None
    keeper: Keeper = NOTHING
