"""Open a zipped folder: config.json, model.safetensors, tokenizer.json. Code and pickles are refused."""

import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from app.errors import FormatUnsafe, ModelMalformed, ModelUnsupported, RemoteCodeRefused
from workers.compute.archives import Archive
from workers.compute.importers.huggingface.safetensors_file import Weights, parse
from workers.compute.wording import shown

_CONFIG, _WEIGHTS, _TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"
_PICKLES = frozenset({".bin", ".pt", ".pth", ".pt2", ".pkl", ".pickle", ".joblib", ".ckpt", ".npy"})
_CODE = frozenset({".py", ".pyc", ".so", ".dll", ".dylib", ".sh", ".exe"})
_MAX_JSON_BYTES = 1 << 20
_MAX_TOKENIZER_BYTES = 64 << 20
_MAX_WEIGHT_BYTES = 2**31 - 1  # one ONNX file cannot hold more

Json = str | int | float | bool | None | list["Json"] | dict[str, "Json"]


@dataclass(frozen=True)
class Folder:
    """What was read: the configuration, the weights by name, and the tokenizer's bytes as they were."""

    config: dict[str, Json]
    weights: Weights
    tokenizer: bytes | None


def open_folder(path: Path) -> Folder:
    """Read the zip.

    Raises ArchiveUnsafe, ArchiveBomb, ArchiveMalformed, FormatUnsafe, RemoteCodeRefused, ModelMalformed,
    ModelUnsupported.
    """
    archive = Archive(path)
    for name in archive.members:
        _refuse_code(name)
    root = _root(archive)
    for name in (_CONFIG, "tokenizer_config.json", "generation_config.json"):
        if root + name in archive.members:
            refuse_remote_code(_json(archive, root + name), name)
    config = _json(archive, root + _CONFIG)
    if not isinstance(config, dict):
        raise ModelMalformed("config.json is not a JSON object.")
    if root + _WEIGHTS not in archive.members:
        if any(name.endswith(".safetensors.index.json") for name in archive.members):
            raise ModelUnsupported("The weights are in several files; save them as one model.safetensors.")
        raise ModelMalformed("The folder has no model.safetensors.")
    tokenizer = None
    if root + _TOKENIZER in archive.members:
        tokenizer = bytes(archive.read(root + _TOKENIZER, _MAX_TOKENIZER_BYTES))
    return Folder(config, parse(archive.read(root + _WEIGHTS, _MAX_WEIGHT_BYTES)), tokenizer)


def _refuse_code(name: str) -> None:
    suffix = PurePosixPath(name).suffix.lower()
    if suffix in _PICKLES:
        raise FormatUnsafe(f"Member {shown(name)!r} may hold pickled objects; only safetensors weights are read.")
    if suffix in _CODE:
        raise RemoteCodeRefused(f"Member {shown(name)!r} is code.")


def _root(archive: Archive) -> str:
    """Return the folder that holds config.json: the top, or the one folder that everything is in."""
    if _CONFIG in archive.members:
        return ""
    tops = {name.partition("/")[0] for name in archive.members}
    top = next(iter(tops), "")
    if len(tops) == 1 and f"{top}/{_CONFIG}" in archive.members:
        return f"{top}/"
    raise ModelMalformed("The archive has no config.json at its top or in its only folder.")


def _json(archive: Archive, name: str) -> Json:
    try:
        found: Json = json.loads(archive.read(name, _MAX_JSON_BYTES))
    except (ValueError, RecursionError) as error:
        raise ModelMalformed(f"{shown(name)} is not JSON.") from error
    return found


def refuse_remote_code(found: Json, name: str) -> None:
    """Raise RemoteCodeRefused if any key, at any depth, asks for code (`auto_map`, `*_implementation*`)."""
    pending = [found]
    while pending:
        part = pending.pop()
        if isinstance(part, list):
            pending += part
        if isinstance(part, dict):
            asking = [key for key in part if key == "auto_map" or "_implementation" in key]
            if asking:
                raise RemoteCodeRefused(f"{name} has the key {shown(asking[0])!r}, which names code to be run.")
            pending += part.values()
