"""Every technique alone, on a text and an image model: before retraining, after, the control, size and speed.

    python -m bench.techniques [text image]      about 15 minutes on 2 cores

Without retraining and without the teacher are the service's own controls: the same steps and budget. What is no better
than the original must be said in words in the report; the last column quotes it.
"""

import sys
from collections.abc import Sequence

from app.contracts.report import ControlReport
from app.contracts.technique import TechniqueInfo
from bench._service import FOLDER, Bench, Done, Step, place, points, service, table, times, write
from bench._small_text import small_text
from examples.originals import digits

_CONTROLS = ("without_retraining", "without_teacher")
# Options where a technique's defaults say nothing about how much it should do to these models.
_OPTIONS: dict[str, Step] = {
    "prune_neurons": {"ratio": 0.5},
    "merge_neurons": {"ratio": 0.5},
    "prune_weights": {"sparsity": 0.8},
    "share_weights": {"clusters": 16},
    "quantize_int8": {"mode": "qat"},
}
_ORIGINALS = {"text": small_text, "image": digits}
_HEADS = ("technique", "without retraining", "retrained", "on labels alone", "file", "p50, batch 1", "said")
_PROMISED = frozenset({"file_bytes", "p50_ms@1"})
_WORDS = ("smaller", "faster", "larger", "slower", "changed nothing", "all the same")
_TEXT_ONLY = frozenset({"trim_vocabulary", "prune_positions"})


def main(kinds: Sequence[str]) -> None:
    """Run all techniques on the models and write their tables."""
    with service() as client:
        for kind in kinds:
            bench = Bench(client, *_ORIGINALS[kind](FOLDER / "originals"))
            chosen = [each for each in client.techniques() if kind == "text" or each.name not in _TEXT_ONLY]
            done = {each.name: _run(bench, each) for each in chosen}
            first = next(iter(done.values()))
            told = f"The original has {first.change('accuracy').before:.2%} accuracy"
            told = f"{place(first.report)}. {told} and {first.report.before.file_bytes:,} bytes."
            write(f"techniques-{kind}", f"{told}\n\n{table(_HEADS, [_row(*each) for each in done.items()])}")


def _run(bench: Bench, technique: TechniqueInfo) -> Done:
    step = {"technique": technique.name, **_OPTIONS.get(technique.name, {})}
    return bench.run(technique.name, [step], batches=(1,), controls=_controls(technique))


def _controls(technique: TechniqueInfo) -> list[str]:
    """Return the controls that make sense: none where nothing trains, and where there is no teacher anyway."""
    if "epochs" not in technique.options["properties"] or technique.needs_labels:
        return []
    return list(_CONTROLS[1:] if technique.trains else _CONTROLS)


def _row(name: str, done: Done) -> list[str]:
    options = ", ".join(f"{option} {value}" for option, value in _OPTIONS.get(name, {}).items())
    accuracy, size = done.change("accuracy"), done.change("file_bytes")
    controls = {control.kind: _lost(control, accuracy.before) for control in done.report.controls}
    bare, alone = (controls.get(kind, "") for kind in _CONTROLS)
    speed = times(done.race.speedups["1@2"])
    found = [bare, points(accuracy.difference), alone, f"{size.ratio or 1:.2f}×", speed, _said(done)]
    return [f"`{name}` {options}".strip(), *found]


def _lost(control: ControlReport, before: float) -> str:
    """Return what a control loses of the original's accuracy, in points."""
    return f"{100 * (control.quality.scores['accuracy'].value - before):+.2f} points".replace("-", "−")


def _said(done: Done) -> str:
    """Return the report's own words where a figure is no better than the original's."""
    poor = [
        change.figure for change in done.report.changes if change.figure in _PROMISED and change.verdict != "better"
    ]
    return " ".join(note for note in done.report.notes if poor and any(word in note for word in _WORDS))


if __name__ == "__main__":
    main(sys.argv[1:] or ["text", "image"])
