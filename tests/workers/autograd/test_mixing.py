"""Mixtures of rows: what is in them, what a teacher and labels say of them, and what they are for."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from app.errors import TechniqueNotApplicable
from tests.workers.autograd import graphs
from tests.workers.autograd.test_training import QUICK, cnn, picture_set, pictures, silent, texts, weights
from workers.compute.autograd import training
from workers.compute.autograd.batching import batch_of
from workers.compute.autograd.mixing import mixed
from workers.compute.autograd.training import Fit, fit
from workers.compute.datasets.samples import Dataset


def test_every_row_is_mixed_with_another_one_in_the_same_share() -> None:
    batch = batch_of(pictures(16, 0), np.arange(16))

    found = mixed(batch, 1.0, (0, 7))

    assert found.blend is not None
    assert found.blend.labels is not None
    rows, mixture = batch.inputs["image"], found.inputs["image"]
    for row in range(16):
        partners = [other for other in range(16) if torch.allclose(
            found.blend.share * rows[row] + (1 - found.blend.share) * rows[other], mixture[row], atol=1e-6
        )]  # fmt: skip
        assert len(partners) == 1
        assert batch.labels is not None
        assert found.blend.labels[row] == batch.labels[partners[0]]


def test_each_step_mixes_anew_and_the_same_step_the_same() -> None:
    batch = batch_of(pictures(16, 0), np.arange(16))
    first, again, second = (mixed(batch, 0.4, (3, step)).inputs["image"] for step in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


def session(settings: Fit) -> training._Session:
    return training._session(cnn(), picture_set(), settings, cnn(3), silent)


def test_teacher_answers_for_the_mixture() -> None:
    under_way = session(replace(QUICK, alpha=0.0, mixup=1.0))
    assert under_way.targets is not None
    batch = under_way.batch(0, np.arange(16))

    (answer,) = under_way.targets.at(batch)

    (expected,) = under_way.targets.teacher.answers(batch)
    assert torch.equal(answer, expected)
    assert not torch.allclose(answer, under_way.targets.at(replace(batch, blend=None))[0])


def test_labels_count_by_their_share_in_the_mixture() -> None:
    under_way = session(replace(QUICK, alpha=1.0, mixup=1.0))
    batch = under_way.batch(0, np.arange(16))
    assert batch.blend is not None
    assert batch.labels is not None
    assert batch.blend.labels is not None
    own, partners = (np.eye(4, dtype=np.float32)[labels] for labels in (batch.labels, batch.blend.labels))
    soft = torch.from_numpy(batch.blend.share * own + (1 - batch.blend.share) * partners)

    under_way.executor.train()
    loss = under_way.loss(batch, None)

    logits = under_way.forward(batch)[under_way.objective.heads[0].logits].detach()
    assert float(loss.detach()) == pytest.approx(float(torch.nn.functional.cross_entropy(logits, soft)), rel=1e-5)


def test_mixtures_narrow_the_gap_between_rows_seen_and_unseen() -> None:
    rows = Dataset(pictures(48, 0), pictures(400, 1), pictures(8, 2), "classification")
    gaps = []
    for mixup in (0.0, 1.0):
        model = cnn()
        fit(model, replace(rows, validation=pictures(0, 1)), replace(QUICK, epochs=60, mixup=mixup), progress=silent)
        losses = []
        for samples in (rows.train, rows.validation):
            logits = training.predict(model, samples, threads=1)["scores"]
            losses.append(float(torch.nn.functional.cross_entropy(
                torch.from_numpy(logits), torch.from_numpy(np.array(samples.labels))
            )))  # fmt: skip
        gaps.append(losses[1] - losses[0])
    assert gaps[1] < 0.8 * gaps[0]


def test_mixed_training_twice_gives_the_same_bits() -> None:
    found = []
    for _ in range(2):
        model = cnn()
        fit(model, picture_set(), replace(QUICK, epochs=1, mixup=0.4), teacher=cnn(3), progress=silent)
        found.append(weights(model))
    assert found[0] == found[1]


def test_inputs_without_values_in_between_are_refused() -> None:
    rows = Dataset(texts(64, 0), texts(32, 1), texts(8, 2), "classification")
    with pytest.raises(TechniqueNotApplicable, match=r"input_ids .*cannot be mixed; set mixup to 0"):
        fit(graphs.model(graphs.encoder()), rows, replace(QUICK, mixup=0.2), progress=silent)
