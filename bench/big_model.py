"""What a big model costs in memory: import, one edit, save; each figure from a process of its own.

    python -m bench.big_model                        # 3 GiB, made on the spot
    python -m bench.big_model --mib 64 --width 512 --limit-mib 16

Makes a stack of residual products with its weights in a second file, zips it as a user would, lets a child admit,
change and save it, and another one compare the result with the upload and run it in ONNX Runtime. Needs free disk of
four times the model for as long as it runs.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from workers.compute import bundles
from workers.compute.archives import Budget
from workers.compute.graph import model as graph_model
from workers.compute.graph.model import Model, load, save
from workers.compute.importers.onnx_file import admit, read

_ROOT = Path(__file__).resolve().parents[1]
_MIB = 1 << 20
_EDITED = "layer0.w"
_LOOK_S = 0.005


def make(folder: Path, layers: int, width: int) -> Path:
    """Write the model with its weights streamed to a second file; return the zip of both."""
    folder.mkdir()
    tensors, nodes, size = [], [], width * width * 4
    block = np.random.default_rng(0).standard_normal((width, width), np.float32) / np.float32(width)
    with (folder / "weights.bin").open("wb") as stream:
        for layer in range(layers):
            tensor = TensorProto(name=f"layer{layer}.w", data_type=TensorProto.FLOAT, dims=[width, width])
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in (("location", "weights.bin"), ("offset", layer * size), ("length", size)):
                tensor.external_data.add(key=key, value=str(value))
            tensors.append(tensor)
            np.roll(block, layer, axis=0).tofile(stream)  # each layer its own, without drawing 3 GiB of numbers
            nodes.append(helper.make_node("MatMul", [f"x{layer}", tensor.name], [f"p{layer}"]))
            nodes.append(helper.make_node("Add", [f"x{layer}", f"p{layer}"], [f"x{layer + 1}"]))
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width]) for name in ("x0", f"x{layers}")]
    graph = helper.make_graph(nodes, "stack", ends[:1], ends[1:], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "m.onnx")
    return zipped(folder)


def zipped(folder: Path) -> Path:
    """Put the folder's files into a zip, stored, and remove them."""
    target = folder.with_suffix(".zip")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, path.name)
    shutil.rmtree(folder)
    return target


@dataclass
class Watch:
    """Resident memory of this process by /proc, in bytes: before, at its highest, and what of it was anonymous."""

    before: int = field(default_factory=lambda: status("VmRSS"))
    anonymous: int = 0
    stopped: threading.Event = field(default_factory=threading.Event)

    def look(self) -> None:
        """Sample until stopped; the kernel keeps a peak of the whole only."""
        while not self.stopped.wait(_LOOK_S):
            self.anonymous = max(self.anonymous, status("RssAnon"))


def status(name: str) -> int:
    """Return a field of /proc/self/status in bytes."""
    for line in Path("/proc/self/status").read_text("ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise KeyError(name)


@contextmanager
def watched() -> Iterator[Watch]:
    """Watch memory for as long as the block runs."""
    watch = Watch()
    thread = threading.Thread(target=watch.look)
    thread.start()
    try:
        yield watch
    finally:
        watch.stopped.set()
        thread.join()


def edit_and_save(archive: Path, target: Path) -> dict[str, float]:
    """Import with every check of an upload, change one weight, save; return seconds and bytes."""
    times = [time.monotonic()]
    with watched() as watch:
        file = bundles.unpack(archive, archive.parent / "unpacked", Budget(max_bytes=1 << 40))
        times.append(time.monotonic())
        admit(file, has_files=True)
        times.append(time.monotonic())
        model = read(file)
        edit(model)
        save(model, target)
        times.append(time.monotonic())
    names = ("unpack_s", "admit_s", "load_edit_save_s")
    spent = {name: end - start for name, start, end in zip(names, times[:-1], times[1:], strict=True)}
    return spent | {"before": watch.before, "peak": status("VmHWM"), "anonymous": watch.anonymous}


def edit(model: Model) -> None:
    """Double one weight."""
    model.write(_EDITED, model.read(_EDITED) * np.float32(2))


def compare(source: Path, target: Path) -> dict[str, float]:
    """Check that only the edited weight differs, and that ONNX Runtime gives what the weights say."""
    before, after = load(source), load(target)
    names = list(before.graph.initializers)
    row = np.ones((1, before.read(names[0]).shape[0]), np.float32)
    expected = row
    for name in names:
        changed = before.read(name) * np.float32(2) if name == _EDITED else before.read(name)
        if not np.array_equal(after.read(name), changed):
            raise SystemExit(f"{name} is not what it should be")
        expected = expected + expected @ changed
    started = time.monotonic()
    session = onnxruntime.InferenceSession(target, providers=["CPUExecutionProvider"])
    found = session.run(None, {"x0": row})[0]
    if not np.allclose(found, expected, rtol=1e-3, atol=1e-4):
        raise SystemExit("ONNX Runtime gives something else")
    return {"compared": len(names), "runtime_s": time.monotonic() - started}


def child(part: str, limit: int, *paths: Path) -> dict[str, float]:
    """Run a part of this script in a fresh process."""
    command = [sys.executable, "-m", "bench.big_model", "--part", part, "--limit-mib", str(limit), *map(str, paths)]
    ended = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=_ROOT)
    found: dict[str, float] = json.loads(ended.stdout)
    return found


def measure(arguments: argparse.Namespace) -> dict[str, float]:
    """Make the model in a temporary folder and run both parts on it."""
    layers = arguments.mib * _MIB // (arguments.width**2 * 4)
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as name:
        scratch = Path(name)
        if shutil.disk_usage(scratch).free < 4 * arguments.mib * _MIB:
            raise SystemExit("there is not enough free disk")
        archive, target = make(scratch / "model", layers, arguments.width), scratch / "saved" / "model.onnx"
        target.parent.mkdir()
        found = child("edit", arguments.limit_mib, archive, target)
        archive.unlink()
        found |= child("compare", arguments.limit_mib, scratch / "unpacked" / "m.onnx", target)
        found |= {"model": bundles.size_bytes(target), "files": len(bundles.parts(target))}
    for kind in ("peak", "anonymous"):
        found[f"{kind}_ratio"] = found[kind] / found["model"]
    return found | {"growth_ratio": (found["peak"] - found["before"]) / found["model"]}


def show(found: dict[str, float]) -> None:
    """Print what was found for people."""
    size = found["model"]
    print(
        f"model {size:,.0f} bytes in {found['files']} files; {found['compared']} tensors compared, runs in ONNX Runtime"
    )
    for kind in ("peak", "anonymous"):
        print(f"{kind:>9} {found[kind]:>14,.0f} bytes = {found[f'{kind}_ratio']:.3f} of the model")
    print(f"          {found['before']:,.0f} bytes of the peak are the process before it began")
    print(", ".join(f"{name.removesuffix('_s')} {value:.1f} s" for name, value in found.items() if name.endswith("_s")))


def main() -> None:
    """Read the arguments; without --part make the model and measure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--mib", type=int, default=3072)
    parser.add_argument("--width", type=int, default=4096)
    parser.add_argument("--limit-mib", type=int, default=2048, help="from which size weights have a file of their own")
    parser.add_argument("--scratch", type=Path, default=None)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--part", choices=["edit", "compare"])
    parser.add_argument("paths", nargs="*", type=Path)
    arguments = parser.parse_args()
    graph_model.MAX_FILE_BYTES = arguments.limit_mib * _MIB - 1
    if arguments.part:
        print(json.dumps((edit_and_save if arguments.part == "edit" else compare)(*arguments.paths)))
        return
    found = measure(arguments)
    print(json.dumps(found)) if arguments.json else show(found)


if __name__ == "__main__":
    main()
