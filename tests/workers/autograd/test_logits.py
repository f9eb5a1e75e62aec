"""A teacher is asked once, and what it said is the same whoever asked."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from tests.workers.autograd.test_training import QUICK, cnn, picture_set, pictures, weights
from workers.compute.autograd import logits as logits_module
from workers.compute.autograd import teaching
from workers.compute.autograd.batching import Batch
from workers.compute.autograd.logits import Logits, asked_by_default
from workers.compute.autograd.training import fit
from workers.compute.graph.model import Model
from workers.compute.tensor_files import Unreadable

_SETTINGS = ("cpu", 1, 0)
_BATCHES = 3  # of 64 rows, in which 96 and 48 rows are asked for


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each call of a teacher had."""
    calls: list[int] = []
    answers: Callable[[teaching.Teacher, Batch], list[Tensor]] = teaching.Teacher.answers

    def counted(self: teaching.Teacher, batch: Batch) -> list[Tensor]:
        calls.append(len(batch.rows))
        return answers(self, batch)

    monkeypatch.setattr(teaching.Teacher, "answers", counted)
    return calls


def trained(teacher: Model, logits: Logits | None, **settings: object) -> dict[str, bytes]:
    student = cnn(1)
    fit(student, picture_set(), replace(QUICK, epochs=1, alpha=0.5, logits=logits, **settings), teacher=teacher)  # type: ignore[arg-type]
    return weights(student)


def silent(_share: float) -> None:
    """Hear nothing."""


def test_second_training_asks_no_more_and_comes_to_the_same_bits(asked: list[int]) -> None:
    teacher = cnn()
    plain = trained(teacher, None)
    assert len(asked) == _BATCHES

    logits = Logits(teacher)
    assert trained(teacher, logits) == plain
    assert trained(teacher, logits) == plain
    assert len(asked) == 2 * _BATCHES


def test_another_process_goes_by_what_the_file_says(asked: list[int], tmp_path: Path) -> None:
    teacher = cnn()
    plain = trained(teacher, None)
    asked_by_default(teacher, picture_set(), _SETTINGS, silent).save(tmp_path / "logits")
    asked.clear()

    known = Logits(teacher)
    known.load(tmp_path / "logits")
    assert trained(teacher, known) == plain
    assert not asked


def test_other_rows_other_batches_and_other_teachers_are_asked_for_anew(asked: list[int]) -> None:
    teacher = cnn()
    known = asked_by_default(teacher, picture_set(), _SETTINGS, silent)
    asked.clear()

    fewer = replace(picture_set(), train=pictures(80, 0))
    fit(cnn(1), fewer, replace(QUICK, epochs=1, alpha=0.5, logits=known), teacher=teacher)
    assert sum(asked) == 80
    asked.clear()
    trained(teacher, known, batch_size=96)
    assert sum(asked) == 96 + 48
    asked.clear()
    assert trained(cnn(2), known) == trained(cnn(2), None)
    assert sum(asked) == 2 * (96 + 48)


def test_what_is_too_large_is_not_kept(asked: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logits_module, "_LASTING_BYTES", 96 * 4 * 4)  # the rows to train on, four classes each
    teacher = cnn()
    logits = asked_by_default(teacher, picture_set(), _SETTINGS, silent)
    asked.clear()

    trained(teacher, logits)
    assert sum(asked) == 48


def test_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "logits").write_bytes(np.random.default_rng(0).bytes(100))
    with pytest.raises(Unreadable):
        Logits(cnn()).load(tmp_path / "logits")
