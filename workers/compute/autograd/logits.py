"""One teacher's logits, asked for once however many trainings learn from them; a file carries them to other processes.

The original teaches in every step of a recipe that trains, in every round of such a step and in every candidate of a
search, and what it answers is the same each time. So are the scores that ONNX Runtime has from its file.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from workers.compute.autograd.dtypes import from_numpy, to_numpy
from workers.compute.autograd.losses import heads_for
from workers.compute.autograd.repeatability import repeatable
from workers.compute.autograd.teaching import Targets, Teacher, targets_of, teacher_of
from workers.compute.datasets.samples import Dataset
from workers.compute.graph.model import Model
from workers.compute.tensor_files import Contents, write

# Of all splits together, between trainings: what is larger is asked for anew in each of them.
_LASTING_BYTES = 1 << 28
_RUNTIME = "runtime"
_AT_ONCE = 64  # no gradients are kept, so that larger batches than those of training fit
Split = Literal["train", "validation"]


class Logits:
    """What `model` has answered as a teacher so far."""

    def __init__(self, model: Model) -> None:
        """Begin without an answer."""
        self.model = model
        self.kept: dict[str, Sequence[Tensor]] = {}

    def targets(
        self, teacher: Teacher, split: Split, dataset: Dataset, batch_size: int, tell: Callable[[float], None]
    ) -> Targets:
        """Return the logits for a split, for training in batches of `batch_size` rows.

        `teacher` runs `model`. It is asked unless it was before; `tell` hears the share that is done.
        """
        size, samples = max(batch_size, _AT_ONCE), dataset.train if split == "train" else dataset.validation
        asked = f"{split}/{size}"  # how many rows go in at once decides the last bits
        kept = self.kept.get(asked, [])
        if len(kept) == len(teacher.heads) and all(len(part) == len(samples) for part in kept):
            tell(1.0)
            return Targets(teacher, samples, [part.to(teacher.executor.device) for part in kept])
        found = targets_of(teacher, samples, size, tell)
        if found.kept is not None and _bytes_of([*self.kept.values(), found.kept]) <= _LASTING_BYTES:
            self.kept[asked] = found.kept
        return found

    def scores(self, split: str, ask: Callable[[], NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return what the model's file answers in ONNX Runtime to a split's rows: (rows, ...). `ask` asks it."""
        asked = f"{split}/{_RUNTIME}"
        if asked not in self.kept:
            found = ask()
            if _bytes_of(self.kept.values()) + found.nbytes > _LASTING_BYTES:
                return found
            self.kept[asked] = [from_numpy(found)]
        return np.asarray(to_numpy(self.kept[asked][0]), np.float32)

    def take(self, other: "Logits") -> None:
        """Take over what `other` knows, which is of the same model in another form."""
        self.kept = {**other.kept, **self.kept}

    def save(self, file: Path) -> None:
        """Write what is known. Raises OSError."""
        facts = {asked: len(parts) for asked, parts in self.kept.items()}
        arrays = {
            f"{asked}/{head}": to_numpy(part.cpu())
            for asked, parts in self.kept.items()
            for head, part in enumerate(parts)
        }
        write(file, facts, arrays, {})

    def load(self, file: Path) -> None:
        """Take over what another process knew of this model. Raises Unreadable, KeyError, OSError."""
        found = Contents.open(file)
        self.kept = {
            asked: [from_numpy(found.array(f"{asked}/{head}")) for head in range(count)]
            for asked, count in found.facts.items()
        }


def asked_by_default(
    model: Model, dataset: Dataset, settings: tuple[str, int, int], tell: Callable[[float], None]
) -> Logits:
    """Ask `model` for what trainings with their defaults learn from; `settings` are device, threads and seed.

    Raises TechniqueNotApplicable for a model that is no teacher.
    """
    device, threads, seed = settings
    logits = Logits(model)
    with repeatable(device, threads, seed):
        teacher = teacher_of(model, heads_for(model, dataset.task), device)
        logits.targets(teacher, "train", dataset, _AT_ONCE, tell)
        logits.targets(teacher, "validation", dataset, _AT_ONCE, lambda _: None)
    return logits


def _bytes_of(kept: Iterable[Sequence[Tensor]]) -> int:
    return sum(part.numel() * part.element_size() for parts in kept for part in parts)
