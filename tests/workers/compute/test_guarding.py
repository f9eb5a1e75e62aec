"""What a failed guard says: where the drop came from, and a repair that works when it is followed."""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.contracts.causes import RestoredLayer, StepDrop
from app.contracts.report import CurvePoint, Measurement, Report, StepReport
from app.contracts.steps.prune_neurons import PruneNeurons
from app.contracts.steps.quantize_int4 import QuantizeInt4
from app.contracts.steps.quantize_int8 import QuantizeInt8
from app.contracts.steps.ternarize import Ternarize
from app.contracts.tasks import CompressOrder
from tests.workers.compute.orders import compress, digits, digits_npz, mlp
from tests.workers.graph.networks import bert
from workers.compute import pipeline
from workers.compute.autograd.training import Fit
from workers.compute.channel import Channel
from workers.compute.datasets.samples import Dataset
from workers.compute.failure import FailedWithReport
from workers.compute.graph.model import Model, load
from workers.compute.repairing import Restoration, gentler, restoring, training
from workers.compute.restoring import cheapest
from workers.compute.techniques import base, distill, retrain

LOOSE = {"metric": "accuracy", "max_drop": 0.13}  # what ternarizing one of the two matrices may cost
_TRAINING = ("retrain", "distill", "prune_weights")


def ran(folder: Path, *steps: dict[str, object], **changes: object) -> Report | FailedWithReport:
    folder.mkdir()
    (folder / "out").mkdir()
    mlp(folder / "model.onnx")
    digits_npz(folder / "digits.npz")
    order = CompressOrder.model_validate(compress(*steps, **changes))
    try:
        done = pipeline.run(order, folder, Channel(io.StringIO()))
    except FailedWithReport as failed:
        return failed
    assert done.report is not None
    return done.report


@pytest.fixture
def floors(monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """Train nothing; return what every training was told to keep."""
    found: list[float | None] = []

    def fit(_model: Model, _dataset: Dataset, settings: Fit, **_: object) -> tuple[CurvePoint, ...]:
        found.append(settings.floor)
        return ()

    for technique in (retrain, distill, base):
        monkeypatch.setattr(technique, "fit", fit)
    return found


@pytest.mark.parametrize("asking", ["guard", "explained"])
def test_every_training_knows_what_is_wanted(asking: str, tmp_path: Path, floors: list[float | None]) -> None:
    steps: list[dict[str, object]] = [{"technique": name, "epochs": 1} for name in _TRAINING]
    kept = ran(tmp_path / "job", *steps, **{asking: LOOSE})
    assert isinstance(kept, Report)
    untrained = kept.steps[0].measurement.quality
    assert untrained is not None
    assert floors == [untrained.scores["accuracy"].value - 0.13] * 3


@pytest.mark.parametrize("wanted", [None, {"metric": "macro_recall", "max_drop": 0.5}])
def test_training_is_held_to_no_score_that_it_does_not_measure(
    wanted: object, tmp_path: Path, floors: list[float | None]
) -> None:
    assert isinstance(ran(tmp_path / "job", {"technique": "retrain", "epochs": 1}, guard=wanted), Report)
    assert floors == [None]


def test_guard_is_met_when_the_advice_is_followed(tmp_path: Path) -> None:
    step = {"technique": "ternarize", "epochs": 0}

    failed = ran(tmp_path / "first", step, guard=LOOSE)

    assert isinstance(failed, FailedWithReport)
    causes = failed.report.guard_causes
    assert causes is not None
    best = causes.repairs[0]
    assert (best.tensors, best.meets, best.extra_bytes) == (["w2"], True, 3840 - causes.layers[0].packed_bytes)
    assert best.advice in failed.error.detail
    advised = re.search(r"set `min_size` of ternarize to (\d+)\.$", best.advice)
    assert advised is not None
    repaired = ran(tmp_path / "second", step | {"min_size": int(advised[1])}, guard=LOOSE)
    assert isinstance(repaired, Report), repaired
    quality = repaired.steps[0].measurement.quality
    assert quality is not None
    assert quality.scores["accuracy"].value == pytest.approx(best.score)


def test_causes_name_step_classes_rows_and_layers_when_two_steps_ran(tmp_path: Path) -> None:
    steps = ({"technique": "prune_weights", "sparsity": 0.2, "epochs": 0}, {"technique": "ternarize", "epochs": 0})

    failed = ran(tmp_path / "job", *steps, guard={"metric": "accuracy", "max_drop": 0.02})

    assert isinstance(failed, FailedWithReport)
    assert "Most of it came with step 2 (ternarize): 0." in failed.error.detail
    causes = failed.report.guard_causes
    assert causes is not None
    first, second = causes.steps
    assert (first.before, first.after, second.after) == (causes.before, second.before, causes.after)
    assert [layer.tensor for layer in causes.layers] == ["w2", "w1"]
    assert all(layer.gain > 0 for layer in causes.layers)
    assert len(causes.classes) == 3
    assert all(lost.after < lost.before for lost in causes.classes)
    labels = digits()[1]
    assert len(causes.samples) == 5
    assert all(turned.label == turned.before == str(labels[turned.row]) != turned.after for turned in causes.samples)


def test_nothing_fails_when_a_drop_is_only_to_be_explained(tmp_path: Path) -> None:
    step = {"technique": "ternarize", "epochs": 0}

    lost = ran(tmp_path / "lost", step, explained=LOOSE)
    kept = ran(tmp_path / "kept", step, explained={"metric": "accuracy", "max_drop": 1.0})

    assert isinstance(lost, Report), lost
    assert isinstance(kept, Report), kept
    assert lost.guard is None
    assert lost.guard_causes is not None
    assert lost.guard_causes.layers[0].gain > 0
    assert lost.after.quality is not None
    assert lost.after.quality.split == "test"
    assert kept.guard_causes is None
    assert kept.sensitivity == []  # a candidate's search has looked
    assert lost.digests == kept.digests


def test_steps_and_classes_are_told_when_shapes_were_cut(tmp_path: Path) -> None:
    failed = ran(tmp_path / "job", {"technique": "prune_neurons", "ratio": 0.9, "epochs": 0}, guard=LOOSE)

    assert isinstance(failed, FailedWithReport)
    causes = failed.report.guard_causes
    assert causes is not None
    assert causes.layers == []
    assert len(causes.classes) == 3
    assert [repair.advice for repair in causes.repairs] == [
        (
            "Retrain: nothing was trained after step 1 (prune_neurons); "
            "raise its `epochs`, or add a step retrain or distill."
        ),
        "Ask less of step 1 (prune_neurons): lower `ratio` (0.9 now).",
    ]


@dataclass(frozen=True)
class Sums:
    """Scores are 0.5 and what the restored layers gain; the guard asks for 0.8."""

    gains: dict[str, float]
    in_time: bool = True

    def together(self, restored: Sequence[str]) -> float:
        return 0.5 + sum(self.gains[name] for name in restored)

    def meets(self, score: float) -> bool:
        return score >= 0.8


def layers(gains: dict[str, float], sizes: dict[str, int]) -> list[RestoredLayer]:
    return [
        RestoredLayer(
            tensor=name,
            operator="MatMul",
            relative_error=0.5,
            score=0.5 + gain,
            gain=gain,
            dense_bytes=sizes[name],
            packed_bytes=0,
            meets=gain >= 0.3,
        )
        for name, gain in gains.items()
    ]


@pytest.mark.parametrize(
    ("gains", "in_time", "expected"),
    [
        ({"a": 0.4, "b": 0.3, "c": 0.1}, True, ["b"]),  # a gains more, b is enough and smaller
        ({"a": 0.2, "b": 0.1, "c": 0.1}, True, ["c", "b", "a"]),
        ({"a": 0.2, "b": 0.1, "c": 0.1}, False, ["a"]),
        ({"a": 0.1, "b": 0.05, "c": -0.1}, True, ["a"]),
        ({"a": -0.1, "b": 0.0, "c": -0.1}, True, []),
    ],
)
def test_cheapest_repair_costs_least_or_comes_closest(
    gains: dict[str, float], in_time: bool, expected: list[str]
) -> None:
    found = layers(gains, {"a": 400, "b": 20, "c": 10})
    best, score = cheapest(Sums(gains, in_time=in_time), found, 4, 0.5)
    assert [layer.tensor for layer in best] == expected
    assert score == pytest.approx(0.5 + sum(gains[name] for name in expected))


def test_restoring_all_that_changed_is_no_repair() -> None:
    gains = {"a": 0.2, "b": 0.2}
    best, _ = cheapest(Sums(gains), layers(gains, {"a": 10, "b": 20}), 2, 0.5)
    assert [layer.tensor for layer in best] == ["a"]


TABLE, FIRST, OTHER = "words.w", "layer0.attention.q.w", "layer0.mlp.up.w"
CHANGED = {TABLE, "positions.w", FIRST, OTHER, "pool.w", "layer1.mlp.up.w"}


@pytest.mark.parametrize(
    ("step", "names", "told"),
    [
        (Ternarize(), [TABLE], "set `embeddings` of ternarize to false"),
        (Ternarize(), [FIRST], "set `keep_first_last` of ternarize to true"),
        (Ternarize(keep_first_last=True), [OTHER], "no option leaves just that out"),
        (PruneNeurons(), [OTHER], "no option leaves just that out"),
        (QuantizeInt4(), [OTHER], "no option leaves just that out"),
    ],
)
def test_advice_names_an_option_that_leaves_the_tensors_out(step: Ternarize, names: list[str], told: str) -> None:
    source = bert(2)
    assert source.graph.initializers.keys() >= CHANGED
    found = Restoration(names, "accuracy", 0.9, 1000, meets=True, rows=512)
    repair = restoring(found, [step], source, CHANGED)
    assert f"In the recipe: {told}" in repair.advice
    assert "accuracy is 0.9000 on 512 validation rows, which meets the guard, for 1,000 bytes more" in repair.advice


def test_options_that_leave_everything_out_are_no_advice(tmp_path: Path) -> None:
    source = load(mlp(tmp_path / "m.onnx"))
    found = Restoration(["w1"], "accuracy", 0.9, 1000, meets=False, rows=512)
    advice = restoring(found, [Ternarize()], source, {"w1", "w2"}).advice
    assert "which comes closest, but does not meet the guard" in advice
    assert "no option leaves just that out" in advice


STEP = StepReport(
    index=1,
    technique="ternarize",
    options={},
    duration_s=1,
    changed=True,
    measurement=Measurement(parameters=1, nonzeros=1, file_bytes=1, zstd_bytes=1),
)
BLAMED = StepDrop(index=1, technique="ternarize", before=0.9, after=0.5)


@pytest.mark.parametrize(
    ("losses", "told"),
    [
        (
            [0.9, 0.7, 0.5],
            "Train longer: validation loss was still falling when step 2 (ternarize) ended (0.7,",
        ),
        ([0.9, 0.5, 0.7], None),
        ([0.9, 0.5, 0.499], None),
        ([0.5], None),
        ([], "Retrain: nothing was trained after step 2 (ternarize)"),
    ],
)
def test_more_training_is_advised_while_it_helps(losses: list[float], told: str | None) -> None:
    curve = [CurvePoint(step=at, epoch=at, validation_loss=loss) for at, loss in enumerate(losses)]
    found = training([STEP.model_copy(update={"curve": curve})], BLAMED, Ternarize())
    assert [repair.advice.startswith(told or "?") for repair in found] == ([True] if told else [])


def test_another_mode_is_advised_when_no_step_may_follow() -> None:
    found = training([STEP], BLAMED, QuantizeInt8())
    assert found[0].advice.endswith("set its `mode` to qat, which trains what is stored.")


def test_less_is_asked_of_a_step_only_by_options_that_it_has() -> None:
    assert gentler(BLAMED, QuantizeInt4(block=32))[0].advice == (
        "Ask less of step 2 (ternarize): lower `block` (32 now)."
    )
    assert gentler(BLAMED, None) == []
