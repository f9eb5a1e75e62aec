"""The child as the supervisor sees it: one order in, messages out, one last word."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper

from app.contracts.tasks import Done, Failed
from tests.workers.compute.orders import ZERO, compress, digits, digits_npz, mlp, narrow, tell
from tests.workers.importers import folders

CHECK = {"kind": "check_model", "path": "upload", "format": "onnx", "threads": 1}


def test_model_is_described_and_copied_when_it_is_good(tmp_path: Path) -> None:
    mlp(tmp_path / "upload")
    told = tell(tmp_path, CHECK)
    assert isinstance(told.last, Done)
    assert told.last.model is not None
    assert told.last.model.parameters == 64 * 96 + 96 + 960 + 10
    assert told.last.model.macs == 64 * 96 + 960
    assert told.last.model.inputs[0].shape == ["batch", 64]
    assert (tmp_path / "out" / "model.onnx").read_bytes() == (tmp_path / "upload").read_bytes()
    assert told.code == 0


def test_problem_is_the_last_word_when_the_model_is_bad(tmp_path: Path) -> None:
    (tmp_path / "upload").write_bytes(b"nonsense" * 10)
    told = tell(tmp_path, CHECK)
    assert isinstance(told.last, Failed)
    assert told.last.problem.name == "model-malformed"
    assert told.last.problem.at_fault == "user"
    assert told.code == 1


def test_runtimes_own_words_are_for_the_log_alone_when_it_refuses(tmp_path: Path) -> None:
    mlp(tmp_path / "a.onnx")
    (tmp_path / "b.onnx").write_bytes(b"nonsense" * 10)
    spec = {"batch_sizes": [1], "threads": 1, "max_seconds": 1}
    told = tell(tmp_path, {"kind": "benchmark", "candidate": "a.onnx", "original": "b.onnx", "spec": spec})
    assert isinstance(told.last, Failed)
    assert told.last.problem.name == "runtime-error"
    assert "protobuf" not in told.last.problem.detail.lower()
    assert "RuntimeRefused" in told.errors
    assert "protobuf" in told.errors.lower()  # the cause, as ONNX Runtime tells it


def test_folder_becomes_a_model_with_its_tokenizer(tmp_path: Path) -> None:
    folders.folder(tmp_path / "upload", folders.bert_config(), folders.bert_weights(), tokenizer__json=b"{}")
    told = tell(tmp_path, CHECK | {"format": "huggingface"})
    assert isinstance(told.last, Done)
    assert told.last.model is not None
    assert told.last.model.classes == ["bad", "fair", "good"]
    assert told.last.model.has_tokenizer
    assert (tmp_path / "out" / "tokenizer.json").read_bytes() == b"{}"


def test_dataset_is_described(tmp_path: Path) -> None:
    digits_npz(tmp_path / "upload")
    told = tell(tmp_path, {"kind": "check_dataset", "dataset": {"path": "upload", "sha256": ZERO, "format": "npz"}})
    assert isinstance(told.last, Done)
    assert told.last.dataset is not None
    assert told.last.dataset.rows == 1797
    assert told.last.dataset.rows_per_split == {"train": 1258, "validation": 180, "test": 359}
    assert len(told.last.dataset.classes) == 10


def test_internal_error_tells_nothing_of_the_inside_when_something_unforeseen_happens(tmp_path: Path) -> None:
    told = tell(tmp_path, CHECK)  # there is no upload
    assert isinstance(told.last, Failed)
    assert told.last.problem.name == "internal-error"
    assert str(tmp_path) not in told.last.problem.detail
    assert "FileNotFoundError" in told.errors


def test_limit_is_named_when_memory_runs_out(tmp_path: Path) -> None:
    with (tmp_path / "upload").open("wb") as upload:
        upload.truncate(1_900_000_000)  # of zeros that take no room on the disk
    told = tell(tmp_path, CHECK, memory="1500000")
    assert isinstance(told.last, Failed)
    assert told.last.problem.name == "resource-limit-exceeded"


def test_checks_start_without_torch(tmp_path: Path) -> None:
    (tmp_path / "shadow").mkdir()
    (tmp_path / "shadow" / "torch.py").write_text("raise SystemExit('torch was imported')")
    mlp(tmp_path / "upload")
    told = tell(tmp_path, CHECK, first_on_path=tmp_path / "shadow")
    assert isinstance(told.last, Done)


def test_benchmark_compares_two_files(tmp_path: Path) -> None:
    mlp(tmp_path / "a.onnx")
    mlp(tmp_path / "b.onnx")
    spec = {"batch_sizes": [1, 4], "threads": 1, "max_seconds": 1}
    told = tell(tmp_path, {"kind": "benchmark", "candidate": "a.onnx", "original": "b.onnx", "spec": spec})
    assert isinstance(told.last, Done)
    result = told.last.benchmark
    assert result is not None
    assert set(result.speedups) == {"1@1", "4@1"}
    assert 0.5 < result.speedups["1@1"].value < 2
    assert {time.operator for time in result.candidate.profile} >= {"Gemm"} or result.candidate.profile
    assert sum(time.share for time in result.candidate.profile) == pytest.approx(1)
    assert result.size_ratio == 1


def test_artifact_is_smaller_and_its_report_true_when_a_recipe_ran(tmp_path: Path) -> None:
    model = mlp(tmp_path / "model.onnx")
    digits_npz(tmp_path / "digits.npz")
    recipe = ({"technique": "prune_weights", "sparsity": 0.5}, {"technique": "share_weights", "clusters": 16})
    told = tell(tmp_path, compress(*recipe, guard={"metric": "accuracy", "max_drop": 0.2}))
    assert isinstance(told.last, Done), told
    report = told.last.report
    assert report is not None
    assert report.after.file_bytes == (tmp_path / "out" / "packed.onnx").stat().st_size
    assert report.after.file_bytes < model.stat().st_size / 3
    assert report.after.nonzeros < 0.6 * report.before.nonzeros
    assert [step.technique for step in report.steps] == ["prune_weights", "share_weights"]
    assert report.steps[0].constraints == {"zeros": 2}
    assert all(0 < (tensor.latency_share or 0) < 1 for tensor in report.tensors)
    assert all(0.5 < (tensor.cosine or 0) < 1 for tensor in report.tensors)
    assert {each.tensor for each in report.sensitivity} == {"w1", "w2"}
    assert report.sensitivity[0].setting == "ternary"
    assert report.after.quality is not None
    assert report.after.quality.split == "test"
    assert report.after.quality.scores["accuracy"].value > 0.85
    assert "on 359 test rows (95 % interval" in report.verdict
    assert any("judged on 359 test rows" in note for note in report.notes)
    assert [message.progress for message in told.messages] == sorted(message.progress for message in told.messages)
    assert any(message.point is not None for message in told.messages)
    images, _ = digits()
    session = ort.InferenceSession(tmp_path / "out" / "packed.onnx", providers=["CPUExecutionProvider"])
    assert session.run(None, {"image": images[:3]})[0].shape == (3, 10)


def test_bytes_are_the_same_when_the_same_order_runs_twice(tmp_path: Path) -> None:
    mlp(tmp_path / "model.onnx")
    digits_npz(tmp_path / "digits.npz")
    digests = []
    for _ in range(2):
        told = tell(tmp_path, compress({"technique": "prune_weights"}, {"technique": "distill", "epochs": 1}))
        assert isinstance(told.last, Done), told
        assert told.last.report is not None
        digests.append(told.last.report.digests)
    assert digests[0] == digests[1]


def test_no_labels_are_needed_when_the_task_is_match(tmp_path: Path) -> None:
    mlp(tmp_path / "model.onnx")
    digits_npz(tmp_path / "digits.npz", labelled=False)
    steps = ({"technique": "prune_weights", "epochs": 0}, {"technique": "distill", "alpha": 0, "epochs": 1})
    told = tell(tmp_path, compress(*steps, task="match", guard={"metric": "agreement", "max_drop": 0.3}))
    assert isinstance(told.last, Done), told
    assert told.last.report is not None
    assert told.last.report.after.quality is not None
    assert told.last.report.after.quality.scores["agreement"].value > 0.7


def test_no_data_are_needed_when_no_step_asks_for_them(tmp_path: Path) -> None:
    mlp(tmp_path / "model.onnx")
    told = tell(tmp_path, compress({"technique": "quantize_int8"}, dataset=None))
    assert isinstance(told.last, Done), told
    assert told.last.report is not None
    assert told.last.report.after.quality is None
    assert told.last.report.after.file_bytes < told.last.report.before.file_bytes / 2


def test_model_is_packed_and_unchanged_when_the_recipe_has_no_steps(tmp_path: Path) -> None:
    path = mlp(tmp_path / "model.onnx")
    ternary = onnx.load(path)
    first = ternary.graph.initializer[0]
    signs = np.sign(np.rint(numpy_helper.to_array(first) * 3)) * np.linspace(0.1, 0.2, 96, dtype=np.float32)
    first.CopyFrom(numpy_helper.from_array(signs.astype(np.float32), first.name))
    onnx.save(ternary, path)
    digits_npz(tmp_path / "digits.npz")

    told = tell(tmp_path, compress(recipe={"pack": {}, "steps": []}, guard={"metric": "accuracy", "max_drop": 0}))

    assert isinstance(told.last, Done), told
    report = told.last.report
    assert report is not None
    assert [(step.technique, step.notes) for step in report.steps] == [
        ("pack", ["1 of 2 large tensors are stored smaller."])
    ]
    assert {tensor.name: tensor.encoding for tensor in report.tensors} == {"w1": "row_scales", "w2": "dense"}
    assert {(tensor.snr_db, tensor.cosine) for tensor in report.tensors} == {(200.0, 1.0)}
    assert report.after.file_bytes < report.before.file_bytes / 2
    images, _ = digits()
    sessions = [ort.InferenceSession(file) for file in (path, tmp_path / "out" / "packed.onnx")]
    before, after = (session.run(None, {"image": images[:50]})[0] for session in sessions)
    np.testing.assert_array_equal(before, after)


def test_nothing_is_packed_when_loading_may_take_no_time(tmp_path: Path) -> None:
    mlp(tmp_path / "model.onnx")
    steps = [{"technique": "share_weights", "clusters": 4, "epochs": 0, "min_size": 2}]

    told = tell(tmp_path, compress(dataset=None, recipe={"pack": {"max_load_ms": 1e-9}, "steps": steps}))

    assert isinstance(told.last, Done), told
    assert told.last.report is not None
    slow = sum((tensor.load_ms or 0) > 1e-9 for tensor in told.last.report.tensors)
    assert slow == 0


def test_report_comes_along_when_the_guard_is_not_met(tmp_path: Path) -> None:
    mlp(tmp_path / "model.onnx")
    digits_npz(tmp_path / "digits.npz")
    step = {"technique": "prune_weights", "sparsity": 0.99, "epochs": 0}
    told = tell(tmp_path, compress(step, guard={"metric": "accuracy", "max_drop": 0.01}))
    assert isinstance(told.last, Failed)
    assert told.last.problem.name == "guard-not-met"
    assert told.last.report is not None
    assert told.last.report.guard == told.last.problem
    assert told.last.report.after.quality is not None
    assert told.last.report.after.quality.split == "validation"
    assert "on 180 validation rows" in told.last.problem.detail
    assert "on 180 validation rows (95 % interval" in told.last.report.verdict
    assert any("the test rows were not tried" in note for note in told.last.report.notes)
    assert told.code == 1


@pytest.mark.parametrize(
    ("changes", "name", "pointer"),
    [
        ({"dataset": None}, "technique-not-applicable", "/recipe/steps/0"),
        ({"task": "match"}, "technique-not-applicable", "/recipe/steps/0"),
        ({"guard": {"metric": "r2"}}, "validation-error", "/guard/metric"),
    ],
)
def test_request_is_pointed_at_when_the_recipe_cannot_run(
    changes: dict[str, object], name: str, pointer: str, tmp_path: Path
) -> None:
    mlp(tmp_path / "model.onnx")
    digits_npz(tmp_path / "digits.npz")
    told = tell(tmp_path, compress({"technique": "retrain"}, **changes))
    assert isinstance(told.last, Failed)
    assert told.last.problem.name == name
    assert told.last.problem.errors[0].pointer == pointer


def test_student_goes_on_in_the_place_of_the_upload_and_becomes_the_assistant(tmp_path: Path) -> None:
    mlp(tmp_path / "model.onnx")
    narrow(tmp_path / "student.onnx")
    digits_npz(tmp_path / "digits.npz")
    student = "mdl_00000000000000000000000000"
    steps = (
        {"technique": "distill", "student": student, "epochs": 2, "learning_rate": 0.02},
        {"technique": "prune_weights", "sparsity": 0.3, "epochs": 0},
        {"technique": "distill", "assistant": True, "alpha": 0, "epochs": 0.1},
    )

    told = tell(tmp_path, compress(*steps, models={student: {"path": "student.onnx", "sha256": ZERO}}))

    assert isinstance(told.last, Done), told
    report = told.last.report
    assert report is not None
    assert report.after.parameters < report.before.parameters / 3
    assert report.after.quality is not None
    assert report.after.quality.scores["accuracy"].value > 0.6
    graph = onnx.load(tmp_path / "out" / "packed.onnx").graph
    assert graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    # The last loss is small because the assistant's answers are near; the upload's are not.
    (first,) = [point.validation_loss for point in report.steps[2].curve if point.step == 0]
    (upload,) = [point.validation_loss for point in report.steps[0].curve if point.step == 0]
    assert first is not None
    assert upload is not None
    assert first < 0.5 * upload
