"""A check_model order: admit the upload, leave `out/model.onnx`, describe it."""

import shutil
from pathlib import Path

from app.contracts.tasks import CheckModelOrder, Done
from workers.compute.channel import Channel
from workers.compute.importers.huggingface.importing import import_folder
from workers.compute.importers.onnx_file import admit
from workers.compute.importers.summary import summarize
from workers.compute.runtime import SessionOptions, open_session


def run(order: CheckModelOrder, scratch: Path, channel: Channel) -> Done:
    """Examine the upload; raises what the importers raise, and RuntimeRefused."""
    uploaded, out = scratch / order.path, scratch / "out"
    model = out / "model.onnx"
    classes: list[str] = []
    channel.progress("reading", 0.0)
    if order.format == "huggingface":
        classes = import_folder(uploaded, out)
    else:
        shutil.copyfile(uploaded, model)
    proto = admit(model)
    channel.progress("opening in ONNX Runtime", 0.5)
    open_session(model, SessionOptions(threads=order.threads, basic=True))
    has_tokenizer = (out / "tokenizer.json").exists()
    return Done(model=summarize(model, proto, classes=classes, has_tokenizer=has_tokenizer))
