"""Rows whose files pass their checks and are hostile only when a job or a benchmark runs them."""

import json
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from tests.hostile.kernel_rows import RUN
from tests.hostile.kernels import LOWEST, graph, ints
from tests.hostile.rows import Build, Row
from tests.hostile.service import CONTROL_ROWS, Answer, Service
from tests.hostile.uploads import packed
from tests.workers.datasets.test_readers import npz_of
from tests.workers.importers.folders import bert_config, bert_weights, safetensors

SHARED = [{"technique": "share_weights", "clusters": 4, "epochs": 1, "min_size": 2}]
BORNE = ("runtime-error", "runtime-crashed", "resource-limit-exceeded", "technique-not-applicable", "model-unsupported",
         "dataset-mismatch", "model-too-complex", "time-limit-exceeded", "")  # fmt: skip
# Their check already tells what they would take.
AT_THE_DOOR = {"pads of 2^40", "output of 2^40", "random numbers without end"}
WORDS = [{"text": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" * 20, "label": n % 3} for n in range(12)]


def job(service: Service, model: Answer, data: Answer | None, recipe: dict[str, Any] | None = None) -> Answer:
    """Run a job on what was admitted; a refusal on the way is the answer."""
    for sent in (model, data):
        if sent is not None and sent.status != 201:
            return sent
    body = {"model": model.body["id"], "recipe": recipe or {"steps": SHARED}, "limits": {"max_run_s": 60}}
    if data is not None:
        body |= {"dataset": data.body["id"]}
    made = service.call("POST", "/v1/jobs", json=body)
    return service.ended(f"/v1/jobs/{made.body['id']}") if made.status == 202 else made


def run(model: Build, data: Build | None = None, kind: str = "npz") -> Any:
    def send(service: Service) -> Answer:
        rows = data or (lambda: npz_of(x=np.resize(CONTROL_ROWS, (60, 4)), y=np.arange(60) % 3))
        return job(service, service.upload("models", "onnx", model()), service.upload("datasets", kind, rows()))

    return send


def packing(model: Build) -> Any:
    """A job without data: what a model is made of is read, folded, packed and opened."""

    def send(service: Service) -> Answer:
        return job(service, service.upload("models", "onnx", model()), None, {"steps": [], "pack": {}})

    return send


def dividing() -> bytes:
    """Rows are divided by the data's own numbers: harmless until a row holds -1."""
    nodes = [
        helper.make_node("Cast", ["x"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Div", ["lowest", "whole"], ["q"]),
        helper.make_node("Cast", ["q"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["h", "f"], ["y"]),
    ]
    return graph(nodes, {"lowest": ints(LOWEST)})


def growing() -> bytes:
    """Rows put beside themselves again and again, which only rows show."""
    nodes = [helper.make_node("Concat", [f"c{i}", f"c{i}"], [f"c{i + 1}"], axis=0) for i in range(1, 40)]
    return graph([helper.make_node("Concat", ["h", "h"], ["c1"], axis=0), *nodes,
                  helper.make_node("Identity", ["c40"], ["y"])])  # fmt: skip


def regex_folder(service: Service) -> Answer:
    tokenizer = {
        "version": "1.0",
        "model": {"type": "WordLevel", "vocab": {"[PAD]": 0, "a": 1, "[UNK]": 2}, "unk_token": "[UNK]"},
        "normalizer": {"type": "Replace", "pattern": {"Regex": "(a|a|aa)*$b"}, "content": ""},
        "added_tokens": [], "pre_tokenizer": None, "post_processor": None, "decoder": None, "truncation": None,
        "padding": None,
    }  # fmt: skip
    members = {
        "config.json": json.dumps(bert_config()).encode(), "model.safetensors": safetensors(bert_weights()),
        "tokenizer.json": json.dumps(tokenizer).encode(),
    }  # fmt: skip
    model = service.upload("models", "huggingface", packed(members))
    data = service.upload("datasets", "jsonl", "\n".join(map(json.dumps, WORDS)).encode())
    return job(service, model, data)


def raced(service: Service) -> Answer:
    """A benchmark against a model that cannot be run."""
    other = service.upload("models", "onnx", RUN["index past the end"]())
    body = {"batch_sizes": [1], "max_seconds": 1, "against": other.body["id"]}
    made = service.call("POST", f"/v1/artifacts/{service.known['artifact']}/benchmarks", json=body)
    return service.ended(f"/v1/benchmarks/{made.body['id']}")


def mismatches() -> list[Row]:
    """Data sets that are in order by themselves, and do not fit the model."""
    control = {"x": CONTROL_ROWS, "y": np.arange(60) % 3}
    cases: dict[str, tuple[str, dict[str, Any]]] = {
        "labels out of range": ("dataset-mismatch", {"y": np.arange(60)}),
        "labels below 0": ("dataset-mismatch", {"y": np.full(60, LOWEST)}),
        "labels between classes": ("dataset-mismatch", {"y": np.linspace(0, 2, 60)}),
        "rows of another width": ("dataset-mismatch", {"x": np.zeros((60, 5), np.float32)}),
        "rows of text": ("dataset-mismatch", {"x": np.array(["a"] * 60)}),
        "rows of no width": ("dataset-mismatch", {"x": np.zeros((60, 0), np.float32)}),
        "other columns": ("dataset-mismatch", {"x": CONTROL_ROWS, "y": np.zeros((60, 2, 2), np.int64)}),
    }

    def sent(arrays: dict[str, Any]) -> Any:
        def send(service: Service) -> Answer:
            data = service.upload("datasets", "npz", npz_of(**{**control, **arrays}))
            model = service.call("GET", f"/v1/models/{service.known['model']}")
            admitted = Answer(201, body=model.body)
            return job(service, admitted, data)

        return send

    return [Row(f"job, {name}", sent(arrays), 200, (problem,)) for name, (problem, arrays) in cases.items()]


def _expected(name: str) -> tuple[int, tuple[str, ...]]:
    return (422, ("model-too-complex",)) if name in AT_THE_DOOR else (200, BORNE)


def rows() -> list[Row]:
    """Return every row of a job or benchmark."""
    hostile = npz_of(x=np.where(np.arange(240).reshape(60, 4) % 7, 3, -1).astype(np.float32), y=np.arange(60) % 3)
    one = Row("job, -1 among the rows", run(dividing, lambda: hostile), 200, ("runtime-crashed",))
    two = Row("job, rows that double", run(growing), 200, ("resource-limit-exceeded", "runtime-error"))
    borne = [Row(f"job, {name}", packing(build), *_expected(name)) for name, build in RUN.items()]
    words = Row("job, pattern that takes for ever", regex_folder, 200, BORNE)
    race = Row("benchmark, against what cannot run", raced, 200, ("runtime-error",))
    return [one, two, words, race, *borne, *mismatches()]
