"""A check_model order: admit the upload, leave `out/model.onnx`, describe it."""

import gc
import shutil
from pathlib import Path

import onnx

from app.contracts.tasks import CheckModelOrder, Done
from workers.compute import bundles, limits
from workers.compute.archives import Budget
from workers.compute.channel import Channel
from workers.compute.graph.model import save
from workers.compute.importers import extents
from workers.compute.importers.huggingface.importing import import_folder
from workers.compute.importers.onnx_file import admit, read
from workers.compute.importers.summary import summarize
from workers.compute.runtime import SessionOptions, open_session

_COPIES = 8  # of a model that are mapped at once: read, parsed, imported, written, opened in ONNX Runtime


def run(order: CheckModelOrder, scratch: Path, channel: Channel) -> Done:
    """Examine the upload; raises what the importers raise, and RuntimeRefused."""
    uploaded, out = scratch / order.path, scratch / "out"
    model = out / "model.onnx"
    classes: list[str] = []
    channel.progress("reading", 0.0)
    if bundles.is_zip(uploaded) and (order.format == "onnx" or bundles.holds_onnx(uploaded)):
        model, proto = _import_archive(uploaded, scratch, Budget(max_bytes=order.max_unpacked_bytes))
    else:
        limits.hold(uploaded.stat().st_size, _COPIES)
        if order.format == "huggingface":
            classes = import_folder(uploaded, out)
        else:
            shutil.copyfile(uploaded, model)
        proto = admit(model)
    extents.check(read(model))
    channel.progress("opening in ONNX Runtime", 0.5)
    open_session(model, SessionOptions(threads=order.threads, basic=True))
    stored = out / "model.onnx"
    if model != stored:
        bundles.pack(model, stored)
    has_tokenizer = (out / "tokenizer.json").exists()
    return Done(model=summarize(model, stored, proto, classes=classes, has_tokenizer=has_tokenizer))


def _import_archive(uploaded: Path, scratch: Path, budget: Budget) -> tuple[Path, onnx.ModelProto]:
    """Return a model of several files as our own writer lays it out, and the upload as admitted.

    What runs later opens no file by a name that a stranger chose.
    """
    strange = bundles.unpack(uploaded, scratch / "unpacked", budget)
    limits.hold(bundles.folder_bytes(strange.parent), _COPIES)
    proto = admit(strange, has_files=True)
    model = scratch / "imported" / "model.onnx"
    model.parent.mkdir()
    save(read(strange), model)
    gc.collect()  # a graph is a ring of references; until it goes, the upload's pages count beside those of the copy
    shutil.rmtree(strange.parent)
    return model, proto
