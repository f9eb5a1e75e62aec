"""Packs a Hugging Face folder into a zip, and tells zips apart: same folder, same bytes. Opens no weight file."""

import zipfile
from pathlib import Path

from modelpress.errors import InvalidInput

# What a model needs to be read again: configuration, safetensors weights, tokenizer. Pickles and code stay home.
_KEPT = (".json", ".safetensors", ".txt", ".model")
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip can hold
_PLAIN_FILE = 0o100644 << 16
_CHUNK_BYTES = 1 << 20


def members(folder: Path) -> list[Path]:
    """Return the files of the folder that are sent, sorted by name.

    Raises InvalidInput when the folder is no Hugging Face model or has its weights only in pickle files.
    """
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    if not any(path.name == "config.json" for path in files):
        msg = f"{folder} has no config.json; give a Hugging Face model folder or an .onnx file"
        raise InvalidInput(msg)
    if not any(path.suffix == ".safetensors" for path in files):
        msg = f"{folder} has no .safetensors weights; save it with save_pretrained(..., safe_serialization=True)"
        raise InvalidInput(msg)
    return [path for path in files if path.suffix in _KEPT]


def holds_onnx(archive: Path) -> bool:
    """Whether a zip is one of an .onnx file and its data files, rather than of a folder with safetensors weights."""
    if not zipfile.is_zipfile(archive):
        return False
    with zipfile.ZipFile(archive) as opened:
        suffixes = {Path(name).suffix.lower() for name in opened.namelist()}
    return ".onnx" in suffixes and ".safetensors" not in suffixes


def zip_folder(folder: Path, target: Path) -> Path:
    """Write the zip: stored (weights do not deflate), names sorted, times fixed."""
    chosen = members(folder)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for path in chosen:
            entry = zipfile.ZipInfo(path.name, _EPOCH)
            entry.external_attr = _PLAIN_FILE
            entry.file_size = path.stat().st_size
            with path.open("rb") as source, archive.open(entry, "w") as member:
                while chunk := source.read(_CHUNK_BYTES):
                    member.write(chunk)
    return target
