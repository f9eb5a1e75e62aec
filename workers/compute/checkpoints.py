"""What a job has reached, in one file that another process goes on from to the same bits. Knows no technique.

A checkpoint holds the courses as far as they were taken, and of the step under way the trainings: what is over, and the
middle of the one that is not. What a step does besides training is done again.
"""

import hashlib
import secrets
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from app.contracts.checkpoint import Position
from app.contracts.report import StepReport
from app.contracts.tasks import CompressOrder, Kept
from workers.compute import bundles
from workers.compute.autograd import keeping
from workers.compute.channel import Channel
from workers.compute.courses import Course
from workers.compute.graph.constraints import Constraint
from workers.compute.graph.model import Model, load, save
from workers.compute.graph.promise_records import put_together, taken_apart
from workers.compute.tensor_files import Array, Contents, Unreadable, write

_FORMAT = 1
# A step that took less is as soon done again as its checkpoint is kept.
_WORTH_S = 5.0
# Of the time, at most one part in so many goes into writing.
_SPARING = 20
# What the order says of the machine, not of the result.
_SURROUNDINGS = {"checkpoint", "checkpoint_every_s", "threads", "device", "logits"}


@dataclass(frozen=True)
class Reached:
    """A course as far as it was taken: what its steps say, the model and its promises.

    `file` is the last step's dense one, or, of a control that is `over`, the packed one: then only that counts.
    `assistant` is what the last training left, where a later step learns from it.
    """

    reports: Sequence[StepReport]
    file: Path
    promises: Mapping[str, Constraint]
    assistant: Model | None = None
    over: bool = False
    spent_s: float = 0.0


@dataclass
class _Step:
    """The step under way, and its trainings that are over."""

    course: Course
    index: int
    begun: int = 0
    over: list[keeping.Kept] = field(default_factory=list)


class Checkpoints:
    """Writes checkpoints while a job runs, and knows what an earlier process left. Keeps the trainings of each step."""

    def __init__(self, order: CompressOrder, scratch: Path, channel: Channel) -> None:
        """Open the earlier checkpoint, if there is one; one that cannot be read is told of and left alone."""
        self._order, self._scratch, self._channel = order, scratch, channel
        self._digest = hashlib.sha256(order.model_dump_json(exclude=_SURROUNDINGS).encode()).hexdigest()
        self._reached: dict[str, Reached] = {}
        self.failures: dict[str, str] = {}
        self._began: dict[str, float] = {}
        self._step: _Step | None = None
        self._written, self._cost_s, self._last = 0, 0.0, time.monotonic()
        self._assistants: dict[str, tuple[Model, Path]] = {}
        self._stop_asked = False
        self._handler: Any = None
        self._earlier = self._opened() if order.checkpoint else None
        self._spent: dict[str, float] = self._earlier.facts["spent"] if self._earlier else {}

    def _opened(self) -> Contents | None:
        path = self._scratch / str(self._order.checkpoint)
        try:
            found = Contents.open(path)
            self._check(found)
            position = Position.model_validate(found.facts["position"])
            self._take_over(found)
        except (Unreadable, KeyError, TypeError, ValueError, OSError) as error:
            why = f" ({error})" if isinstance(error, Unreadable) else ""
            self._reached, self.failures = {}, {}
            self._channel.log(f"the checkpoint cannot be read{why}: the work starts from the beginning")
            return None
        with suppress(OSError):
            path.unlink()  # what is open stays readable, and takes no more room than it needs
        self._channel.log(f"resumed from {position.words}")
        return found

    def _check(self, found: Contents) -> None:
        if found.facts["format"] != _FORMAT or found.facts["order"] != self._digest:
            msg = "it is another job's, or of another version of the service"
            raise Unreadable(msg)

    def _take_over(self, found: Contents) -> None:
        """Lay out the models of each course in the scratch."""
        self.failures = dict(found.facts["failures"])
        for name, facts in found.facts["courses"].items():
            folder = self._scratch / f"{name}-resumed"
            at = f"course/{name}/"
            assistant = None
            if facts["assistant"] is not None:
                held = self._laid_out(found, f"{at}assistant/", facts["assistant_files"], f"{name}-assistant")
                assistant = Model(load(held).ir, put_together(facts["assistant"], found.arrays(f"{at}taught/")))
            self._reached[name] = Reached(
                [StepReport.model_validate(report) for report in facts["reports"]],
                self._laid_out(found, f"{at}file/", facts["files"], folder.name),
                put_together(facts["promises"], found.arrays(f"{at}promise/")),
                assistant,
                facts["over"],
                facts["spent_s"],
            )

    def _laid_out(self, found: Contents, at: str, names: Sequence[str], folder: str) -> Path:
        target = self._scratch / folder
        target.mkdir()
        for name in names:
            found.copy_file(at + name, target / Path(name).name)
        return target / Path(names[0]).name

    def began(self, what: str) -> float:
        """Return when something began that began now, or, by this process's monotonic clock, before it."""
        self._began[what] = time.monotonic() - self._spent.get(what, 0.0)
        return self._began[what]

    def reached(self, course: Course) -> Reached | None:
        """Return how far a course was taken by an earlier process."""
        return self._reached.get(course.name)

    def enter(self, course: Course, index: int) -> float:
        """Begin a step; return when it began, maybe in an earlier process."""
        self._step = _Step(course, index)
        return self.began(f"{course.name}/{index}")

    def leave(self, course: Course, reached: Reached) -> None:
        """Take over what a step has left, or a whole control."""
        self._step, self._earlier = None, None
        self._reached[course.name] = reached
        waited_s = time.monotonic() - self._last
        if self._order.checkpoint_every_s and waited_s > max(
            min(_WORTH_S, self._order.checkpoint_every_s), _SPARING * self._cost_s
        ):
            self._write(_position(course, len(reached.reports) - 1), None)

    def fail(self, course: Course, words: str) -> None:
        """Note why a control could not be run."""
        self.failures[course.name] = words
        self._reached.pop(course.name, None)
        self.calm()

    def begin(self) -> keeping.Kept | None:
        """Return what is known of the next training of this step; from now on a SIGTERM ends it with a checkpoint."""
        step = self._step
        if step is None:
            return None
        found = self._found(step)
        step.begun += 1
        if found is not None and found.facts["finished"]:
            step.over.append(found)
            return found
        if self._order.checkpoint_every_s and threading.current_thread() is threading.main_thread():
            self._handler = signal.signal(signal.SIGTERM, self._hear)
        return found

    def _found(self, step: _Step) -> keeping.Kept | None:
        if self._earlier is None or self._earlier.facts["step"] != f"{step.course.name}/{step.index}":
            return None
        trainings = self._earlier.facts["trainings"]
        if step.begun >= len(trainings):
            return None
        return keeping.Kept(trainings[step.begun], self._earlier.arrays(f"training/{step.begun}/"))

    def due(self) -> bool:
        """Whether the last checkpoint is old enough, or the process is to end."""
        if not self._order.checkpoint_every_s:
            return False
        waited_s = time.monotonic() - self._last
        return self._stop_asked or waited_s > max(self._order.checkpoint_every_s, _SPARING * self._cost_s)

    def keep(self, reached: keeping.Kept) -> None:
        """Write a checkpoint of the training under way; then end as SIGTERM ends a process, if one came."""
        step = self._step
        if step is not None:
            epochs = reached.facts["epoch"], reached.facts["epochs"]
            self._write(_position(step.course, step.index, *epochs), reached)
        if self._stop_asked:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.raise_signal(signal.SIGTERM)

    def end(self, reached: keeping.Kept) -> None:
        """Hold on to what a training has left, until the step is done."""
        if self._step is not None and self._order.checkpoint_every_s:
            self._step.over.append(reached)
        self.calm()

    def calm(self) -> None:
        """Let a SIGTERM end the process at once again."""
        if self._handler is not None:
            signal.signal(signal.SIGTERM, self._handler)
            self._handler = None
            if self._stop_asked:
                signal.raise_signal(signal.SIGTERM)

    def _hear(self, _number: int, _frame: FrameType | None) -> None:
        self._stop_asked = True

    def _write(self, position: Position, training: keeping.Kept | None) -> None:
        """Write a file and tell of it; without room for one the work goes on without."""
        started, number = time.monotonic(), self._written + 1
        path = self._scratch / "out" / f"checkpoint-{number}"
        facts, arrays, files = self._contents(position, training)
        try:
            write(path, facts, arrays, files)
        except OSError as error:
            self._channel.log(f"no checkpoint could be kept ({error.strerror}); the work goes on")
        else:
            path.with_name(f"checkpoint-{self._written}").unlink(missing_ok=True)
            self._written = number
            self._channel.say(Kept(file=path.name, position=position))
        self._last = time.monotonic()
        self._cost_s = self._last - started

    def _contents(
        self, position: Position, training: keeping.Kept | None
    ) -> tuple[dict[str, Any], dict[str, Array], dict[str, Path]]:
        arrays: dict[str, Array] = {}
        files: dict[str, Path] = {}
        courses = {name: self._course(name, reached, arrays, files) for name, reached in self._reached.items()}
        step = self._step
        trainings = [*(step.over if step else []), *([training] if training else [])]
        for place, kept in enumerate(trainings):
            arrays |= {f"training/{place}/{name}": array for name, array in kept.arrays.items()}
        now = time.monotonic()
        facts = {
            "format": _FORMAT,
            "order": self._digest,
            "nonce": secrets.token_hex(16),  # no other record ever names these bytes, so they can go with this one
            "position": position.model_dump(),
            "spent": {what: now - began for what, began in self._began.items()},
            "failures": self.failures,
            "courses": courses,
            "step": f"{step.course.name}/{step.index}" if step else None,
            "trainings": [kept.facts for kept in trainings],
        }
        return facts, arrays, files

    def _course(
        self, name: str, reached: Reached, arrays: dict[str, Array], files: dict[str, Path]
    ) -> dict[str, object]:
        """Return the facts of a course, and add what they name."""
        at, taught, beside = f"course/{name}/", None, list[Path]()
        promises, found = taken_apart(reached.promises)
        arrays |= {f"{at}promise/{key}": array for key, array in found.items()}
        parts = bundles.parts(reached.file)
        files |= {f"{at}file/{part.name}": part for part in parts}
        if reached.assistant is not None:
            taught, found = taken_apart(reached.assistant.constraints)
            arrays |= {f"{at}taught/{key}": array for key, array in found.items()}
            beside = bundles.parts(self._saved(name, reached.assistant))
            files |= {f"{at}assistant/{part.name}": part for part in beside}
        return {
            "reports": [report.model_dump(mode="json") for report in reached.reports],
            "files": [part.name for part in parts],
            "promises": promises,
            "assistant": taught,
            "assistant_files": [part.name for part in beside],
            "over": reached.over,
            "spent_s": reached.spent_s,
        }

    def _saved(self, name: str, assistant: Model) -> Path:
        """Return the assistant's file, which is written once."""
        known, path = self._assistants.get(name, (None, self._scratch / f"{name}-assistant-kept" / "model.onnx"))
        if known is not assistant:
            path.parent.mkdir(exist_ok=True)
            save(assistant, path)
            self._assistants[name] = assistant, path
        return path


def _position(course: Course, index: int, epoch: float | None = None, epochs: float | None = None) -> Position:
    return Position(
        step=index + 1,
        steps=len(course.steps),
        technique=course.steps[index].technique,
        control=course.control,
        epoch=epoch,
        epochs=epochs,
    )
