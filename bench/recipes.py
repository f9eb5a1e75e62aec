"""Thirty random recipes of two to five steps on a small text and a small image model, each run twice.

    python -m bench.recipes [image text] [--recipes 30] [--seed 0]      about 15 minutes each on 2 cores

Every recipe that is valid at submit must run to its end (the runner checks all constraints after each step), and the
second run must give the same file, byte for byte.
"""

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence

from pydantic import ValidationError

from app.contracts.recipe import Recipe
from bench._service import FOLDER, Bench, Step, service, table, write
from bench._small_text import small_text
from examples.originals import digits

_EPOCHS = (0, 0.5, 1)
# What may be drawn for each technique on either model; on one of them alone where the other has nothing of the kind.
_COMMON: dict[str, Sequence[Step]] = {
    "distill": [{"epochs": 0.5}, {"epochs": 1, "alpha": 0}, {"epochs": 0.5, "hidden": 1.0}],
    "retrain": [{"epochs": 0.5}],
    "prune_layers": [{"keep": 1}, {"keep": 2, "order": "first"}],
    "prune_neurons": [{"ratio": 0.3}, {"ratio": 0.5, "importance": "magnitude"}, {"ratio": 0.25, "scope": "global"}],
    "merge_neurons": [{"ratio": 0.3}, {"ratio": 0.5}],
    "prune_weights": [
        {"sparsity": 0.7},
        {"pattern": "2:4"},
        {"sparsity": 0.5, "schedule": "one_shot", "scope": "layer"},
    ],
    "share_weights": [{"clusters": 16}, {"clusters": 64, "init": "density"}],
    "ternarize": [{}, {"scale": "learned"}, {"gradual": True}],
    "binarize": [{}, {"two_step": False}],
    "quantize_int4": [{}, {"block": 64}],
    "quantize_fp16": [{}, {"format": "bfloat16"}],
    "factorize": [{"rank": 0.3}, {"energy": 0.9}],
    "quantize_int8": [{}, {"mode": "static"}, {"mode": "qat", "epochs": 0.5}],
    "prune_positions": [{}],
}
_TEXT: dict[str, Sequence[Step]] = {
    "trim_vocabulary": [{"min_count": 2}, {"min_count": 3}],
    "distill": [{"epochs": 0.5, "attention": 1.0}],
}
# Steps that the draw gives no epochs: they have none, or say themselves.
_UNTRAINED = frozenset({"distill", "retrain", "prune_positions", "quantize_fp16", "quantize_int8"})
_STEPS = (2, 5)


def draw(random_: random.Random, choices: dict[str, Sequence[Step]]) -> list[Step]:
    """Return the steps of a recipe that is valid at submit."""
    while True:
        steps = []
        for _ in range(random_.randint(*_STEPS)):
            technique = random_.choice(sorted(choices))
            step = {"technique": technique, **random_.choice(list(choices[technique]))}
            if technique not in _UNTRAINED and "epochs" not in step:
                step["epochs"] = random_.choice(_EPOCHS)
            steps.append(step)
        try:
            Recipe.model_validate({"steps": steps})
        except ValidationError:
            continue
        return steps


def main() -> int:
    """Run all recipes twice and write the table; return 1 if any failed or differed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=["image", "text"])
    parser.add_argument("--recipes", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    originals = FOLDER / "originals"
    cases = {"image": (digits, _COMMON), "text": (small_text, _COMMON | _TEXT)}
    rows, wrong = [], 0
    with service() as client:
        for name in chosen.models:
            made, choices = cases[name]
            random_, used, started = random.Random(chosen.seed), Counter[str](), time.monotonic()
            bench, same = Bench(client, *made(originals)), 0
            for number in range(chosen.recipes):
                steps = draw(random_, choices)
                used.update(str(step["technique"]) for step in steps)
                digests = {bench.report(f"{number}", steps).digests["packed"] for _ in range(2)}
                same += len(digests) == 1
            wrong += chosen.recipes - same
            told = ", ".join(f"{technique} {count}" for technique, count in sorted(used.items()))
            minutes = (time.monotonic() - started) / 60
            rows.append([name, str(chosen.recipes), f"{same} of {chosen.recipes}", f"{minutes:.0f}", told])
    heads = ["model", "recipes that ran", "same digest twice", "minutes", "steps drawn"]
    write("recipes", table(heads, rows))
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
