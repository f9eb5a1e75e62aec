"""Fashion-MNIST: Deep Compression's two networks by its recipe, and a ResNet-20 of ternary and of binary weights.

    python -m bench.vision [lenet-300-100 lenet-5 resnet-20]      about 40 minutes on 2 cores, the originals included

Jobs go through REST; every file is one that stock ONNX Runtime opens. Needs Debian's dataset-fashion-mnist.
"""

import sys

from bench._service import FOLDER, Bench, Done, Step, place, points, service, table, times, write
from examples.originals import fashion

_PRUNE: Step = {"technique": "prune_weights", "batch_size": 64, "learning_rate": 2e-3, "patience": 100}
_SHARE: Step = {"technique": "share_weights", "clusters": 16, "min_size": 256, "batch_size": 64, "patience": 10}
_MIXED: Step = {"learning_rate": 5e-4, "mixup": 0.4, "patience": 100}
_FEW: Step = {"batch_size": 64, "learning_rate": 1e-3, "patience": 6}
_CASES: dict[str, dict[str, list[Step]]] = {
    # Half of its neurons are enough, and a weight that stays is cheaper to place among fewer.
    "lenet-300-100": {
        "prune-share": [
            {"technique": "prune_neurons", "ratio": 0.5, "kinds": ["neurons"], "epochs": 0},
            {**_PRUNE, "sparsity": 0.84, "epochs": 40},
            {**_SHARE, "assignment": "learned", "epochs": 10, "learning_rate": 5e-4, "patience": 100},
        ]
    },
    # It learns the training pictures by heart, so mixtures of them; and 200 of its 500 hidden neurons are enough.
    "lenet-5": {
        "prune-share": [
            {"technique": "prune_neurons", "ratio": 0.6, "kinds": ["neurons"], "epochs": 0},
            {**_PRUNE, "sparsity": 0.8, "epochs": 10, "mixup": 0.4},
            {**_SHARE, "assignment": "learned", "epochs": 6, **_MIXED},
        ]
    },
    "resnet-20": {
        "ternary": [{"technique": "ternarize", "epochs": 4, **_FEW}, {"technique": "fold_batch_norm"}],
        "binary": [{"technique": "binarize", "epochs": 6, **_FEW}, {"technique": "fold_batch_norm"}],
    },
}
# What the papers report of their own networks and data, and the file they count.
_PAPERS = {
    "lenet-300-100": "Deep Compression, MNIST, Huffman codes kept off-line: 40×, no loss",
    "lenet-5": "Deep Compression, MNIST, Huffman codes kept off-line: 39×, no loss",
    "ternary": "TWN: up to 16×, slightly worse; TTQ: nearly 16×, ResNet-32 to 56, CIFAR-10: 0.04 to 0.36 points better",
    "binary": "BinaryBERT: 24×, a slight drop on GLUE and SQuAD",
}
_HEADS = ("network", "recipe", "accuracy", "after", "difference", "smaller", "p50, batch 1", "in the papers, of theirs")


def main(networks: list[str]) -> None:
    """Run the cases and write their table."""
    rows, last = [], None
    with service() as client:
        for network in networks:
            bench = Bench(client, *fashion(FOLDER / "originals", network))
            for name, steps in _CASES[network].items():
                last = bench.run(name, steps, batches=(1,))
                rows.append(_row(network, name, steps, last))
    if last is not None:
        write("vision", f"{place(last.report)}.\n\n{table(_HEADS, rows)}")


def _row(network: str, name: str, steps: list[Step], done: Done) -> list[str]:
    accuracy = done.change("accuracy")
    told = ", ".join(str(step["technique"]) for step in steps)
    paper = _PAPERS.get(name) or _PAPERS[network]
    size = f"**{done.smaller:.1f}×** ({done.report.after.file_bytes:,} bytes)"
    found = [f"{100 * accuracy.before:.2f} %", f"{100 * accuracy.after:.2f} %", points(accuracy.difference), size]
    return [network, told, *found, times(done.race.speedups["1@2"]), paper]


if __name__ == "__main__":
    main(sys.argv[1:] or list(_CASES))
