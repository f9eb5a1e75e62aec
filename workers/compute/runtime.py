"""ONNX Runtime sessions, opened one way everywhere. Translates the runtime's errors into ours."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as state

from app.errors import LimitReached, RuntimeRefused
from workers.compute.wording import shown

_REFUSALS = (
    state.Fail,
    state.InvalidArgument,
    state.InvalidGraph,
    state.InvalidProtobuf,
    state.NotImplemented,
    state.RuntimeException,
    state.EngineError,
    state.EPFail,
    state.NoSuchFile,
    state.NoModel,
    state.NotFound,
)
# The forms that the runtime names a node in; anything looser would take its own words, or a system's, for a name.
_NODE = re.compile(r"(?:node with name '|Name:'|[Nn]ode \(|Node:)([^'\n\")]{1,300})")
_WEIGHTS_APART = "session.optimized_model_external_initializers_file_name"
_SILENT = 4  # only fatal messages; they go to standard error


@dataclass(frozen=True)
class SessionOptions:
    """How a session runs; `profile` is a file prefix that switches profiling on.

    `optimised` is where to write the graph that the runtime makes of the file, its weights in a file of their own.
    `basic` is for a session that only shows that the model loads: it copies no weights into a faster layout.
    """

    threads: int = 2
    provider: str = "cpu"
    basic: bool = False
    profile: Path | None = None
    optimised: Path | None = None


def open_session(file: Path | bytes, options: SessionOptions) -> ort.InferenceSession:
    """Load an ONNX file, by its path or its content.

    Raises RuntimeRefused when ONNX Runtime cannot, LimitReached when memory runs out.
    """
    ort.disable_telemetry_events()
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = options.threads
    settings.inter_op_num_threads = 1
    settings.log_severity_level = _SILENT
    if options.basic:
        settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        settings.add_session_config_entry("session.disable_prepacking", "1")
    if options.profile is not None:
        settings.enable_profiling = True
        settings.profile_file_prefix = str(options.profile)
    if options.optimised is not None:
        settings.optimized_model_filepath = str(options.optimised)
        settings.add_session_config_entry(_WEIGHTS_APART, f"{options.optimised.name}.data")
    providers = ["CUDAExecutionProvider"] if options.provider == "cuda" else []
    with translated("load"):
        return ort.InferenceSession(file, settings, providers=[*providers, "CPUExecutionProvider"])


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Turn the runtime's exceptions into RuntimeRefused or LimitReached, in our own words."""
    try:
        yield
    except _REFUSALS as error:
        text = str(error)
        if "bad_alloc" in text or "Failed to allocate" in text:
            raise LimitReached(f"Memory ran out when ONNX Runtime tried to {doing} the model.") from error
        found = _NODE.search(text)
        where = f" at node {shown(found.group(1).strip())!r}" if found else ""
        raise RuntimeRefused(f"ONNX Runtime cannot {doing} the model{where}.") from error
