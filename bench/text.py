"""MiniLM on the SpamAssassin mails: a plain recipe, a fast model, the smallest file, and how such files load.

    python -m bench.text [spam|origin] [recipes]      about 25 minutes on 2 cores each, with a teacher that is made once

Jobs go through REST. Each file is then opened by stock ONNX Runtime alone: its answers are counted again, its optimized
graph is searched for what still decodes weights, and its load raced against the original's in fresh sessions.
"""

import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx

from bench._service import Bench, Done, Step, place, points, service, table, times, write
from bench._stock import right, session
from examples import spam_teacher
from workers.compute.intervals import ratio_of_medians

_EXAMPLES = Path("var/examples")
_INT8: Step = {"technique": "quantize_int8"}


def _student(layers: int) -> list[Step]:
    """Return the steps to a student of few layers, a quarter of their neurons, half of their heads, untrained."""
    return [
        {"technique": "trim_vocabulary", "min_count": 2, "epochs": 0},
        {"technique": "prune_layers", "keep": layers, "epochs": 0},
        {"technique": "prune_positions"},
        {"technique": "prune_neurons", "ratio": 0.75, "kinds": ["neurons"], "epochs": 0},
        {"technique": "prune_neurons", "ratio": 0.5, "kinds": ["heads"], "epochs": 0},
    ]


def _ternary(rank: float) -> list[Step]:
    """Return the steps that make a student small: embeddings of low rank, distilled, then ternary."""
    return [
        {"technique": "factorize", "kinds": ["embeddings"], "rank": rank, "epochs": 0},
        {"technique": "distill", "epochs": 8, "patience": 6, "learning_rate": 0.0005},
        {"technique": "ternarize", "epochs": 8, "patience": 8, "learning_rate": 0.001},
        _INT8,
    ]


_RECIPES: dict[str, list[Step]] = {
    "int8": [
        {"technique": "prune_layers", "keep": 2},
        {"technique": "distill", "epochs": 3, "learning_rate": 0.0005},
        _INT8,
    ],
    "fast": [
        *_student(1),
        {"technique": "distill", "epochs": 4, "learning_rate": 0.0005},
        _INT8,
    ],
    "smallest": [*_student(1), *_ternary(0.334)],
    "careful": [*_student(2), *_ternary(0.5)],
}
_LOADS = 30
_HEADS = ("recipe", "file", "accuracy", "p50, batch 1", "p50, batch 8", "load", "right in ONNX Runtime alone")


def main(task: str, names: Sequence[str]) -> None:
    """Run the recipes and write their table."""
    mails = inputs(task)
    with service() as client:
        bench = Bench(client, mails / "teacher.zip", mails / "mails.jsonl")
        done = {name: bench.run(f"{task}-{name}", _RECIPES[name]) for name in names}
    first = next(iter(done.values()))
    told = f"{place(first.report)}. The original has {first.change('accuracy').before:.2%} accuracy."
    recipes = "\n".join(f"- `{name}`: `{json.dumps({'steps': _RECIPES[name]})}`" for name in names)
    rows = [_row(name, each, mails) for name, each in done.items()]
    write({"spam": "text"}.get(task, task), "\n\n".join([told, table(_HEADS, rows), recipes]))


def inputs(task: str) -> Path:
    """Return the folder of a fine-tuned MiniLM and its mails, made where it is not there."""
    folder = _EXAMPLES / task
    if not (folder / "teacher.zip").exists():
        spam_teacher.main(folder, task)
    return folder


def _row(name: str, done: Done, mails: Path) -> list[str]:
    speeds = [times(done.race.speedups[f"{batch}@2"]) for batch in (1, 8)]
    size = f"**{done.smaller:.1f}×** smaller ({done.report.after.file_bytes:,} bytes)"
    hits, total = right(done.file, mails)
    alone = f"{hits:,} of {total:,}; {_decoding(done.file)} decoding nodes left"
    return [name, size, points(done.change("accuracy").difference), *speeds, _load(done.file, mails), alone]


def _decoding(file: Path) -> int:
    """Return how many nodes of the graph that ONNX Runtime runs depend on constants alone."""
    with tempfile.TemporaryDirectory() as folder:
        session(file, optimized := Path(folder) / "optimized.onnx")
        graph = onnx.load(optimized).graph
    known, count = {"", *(tensor.name for tensor in graph.initializer)}, 0
    for node in graph.node:
        if known.issuperset(node.input):
            known.update(node.output)
            count += 1
    return count


def _load(file: Path, folder: Path) -> str:
    """Race the load against the original's, in turns."""
    seconds: list[list[float]] = [[], []]
    for turn in range(_LOADS):
        for side in (0, 1) if turn % 2 else (1, 0):
            started = time.perf_counter()
            session((file, folder / "teacher.onnx")[side])
            seconds[side].append(time.perf_counter() - started)
    ours, theirs = (np.array(column)[:, None] for column in seconds)
    ratio = ratio_of_medians(ours, theirs, seed=0)
    return f"{1000 * np.median(ours):.0f} ms, {ratio.value:.2f} of the original's ({ratio.low:.2f} to {ratio.high:.2f})"


if __name__ == "__main__":
    for asked in sys.argv[1:2] or ["spam", "origin"]:
        main(asked, sys.argv[2:] or list(_RECIPES))
