"""Where figures were taken: versions, processor, the flags that decide int8 speed. Starts no process."""

import platform
from importlib import metadata
from pathlib import Path

from app.contracts.report import Environment

_PACKAGES = ("modelpress", "onnxruntime", "onnx", "onnx-ir", "torch", "numpy", "tokenizers")
# x86: VNNI and AMX multiply int8 without saturation; Arm: dot product and int8 matrix multiply.
_FLAGS = (
    "avx2", "avx512f", "avx512bw", "avx_vnni", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_int8", "amx_bf16",
    "asimddp", "i8mm", "sve",
)  # fmt: skip
INT8_FLAGS = frozenset({"avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm"})


def environment(threads: int, device: str) -> Environment:
    """Describe this machine; what cannot be read is called unknown."""
    name, flags = _processor(Path("/proc/cpuinfo"))
    return Environment(
        python=platform.python_version(),
        versions={package: _version(package) for package in _PACKAGES},
        cpu=name,
        cpu_flags=[flag for flag in _FLAGS if flag in flags],
        threads=threads,
        device=device,
    )


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _processor(cpuinfo: Path) -> tuple[str, frozenset[str]]:
    try:
        lines = cpuinfo.read_text("utf-8", "replace").splitlines()
    except OSError:
        return "unknown", frozenset()
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = fields.get("flags", fields.get("Features", ""))
    return fields.get("model name", "unknown"), frozenset(flags.split())
