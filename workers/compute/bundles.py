"""A model as one file: ONNX as it is, or, where its weights lie beside it, a zip of both. Knows no job."""

import shutil
import zipfile
from pathlib import Path, PurePosixPath

from app.errors import ArchiveUnsafe, FormatUnsafe, ModelExternalData
from workers.compute.archives import Archive, Budget
from workers.compute.files import CHUNK_BYTES, sha256_of, zstd_bytes_of
from workers.compute.graph.external import beside
from workers.compute.wording import shown

_MAGIC = b"PK\x03\x04"
_PLAIN_FILE = 0o100644
_MAX_NAME_BYTES = 255  # where file systems end
OURS = Budget(max_bytes=1 << 62, max_ratio=1 << 62)  # for what has been admitted, or is our own work


def parts(model: Path) -> list[Path]:
    """Return the files that `graph.model.save` leaves of a model: its own, and that of its data if there is one."""
    data = beside(model)
    return [model, data] if data.exists() else [model]


def size_bytes(model: Path) -> int:
    """Return the bytes of all parts together."""
    return sum(part.stat().st_size for part in parts(model))


def folder_bytes(folder: Path) -> int:
    """Return the bytes of all files of a folder."""
    return sum(path.stat().st_size for path in folder.iterdir())


def zstd_bytes(model: Path) -> int:
    """Return the bytes that all parts take after zstd."""
    return sum(zstd_bytes_of(part) for part in parts(model))


def digests(model: Path) -> list[str]:
    """Return the SHA-256 of each part. A data file is named inside its model file, so the names count too."""
    return [sha256_of(part) for part in parts(model)]


def pack(model: Path, target: Path) -> None:
    """Copy the model to `target`: byte for byte, or as a zip of its parts; same parts, same bytes."""
    files = parts(model)
    if len(files) == 1:
        shutil.copyfile(model, target)
        return
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:  # weights do not deflate
        for part in files:
            entry = zipfile.ZipInfo(part.name)  # of 1980, not of the clock
            entry.create_system, entry.external_attr = 3, _PLAIN_FILE << 16
            entry.file_size = part.stat().st_size  # decides whether its header is one for 4 GiB and more
            with part.open("rb") as source, archive.open(entry, "w") as member:
                shutil.copyfileobj(source, member, CHUNK_BYTES)


def is_zip(path: Path) -> bool:
    """Whether the file begins like a zip archive, which no ONNX file does."""
    with path.open("rb") as stream:
        return stream.read(len(_MAGIC)) == _MAGIC


def holds_onnx(path: Path) -> bool:
    """Whether a zip is one of an ONNX model rather than of a safetensors folder. Raises what `Archive` raises."""
    suffixes = {PurePosixPath(name).suffix.lower() for name in Archive(path, OURS).members}
    return ".onnx" in suffixes and ".safetensors" not in suffixes


def opened(path: Path, folder: Path) -> Path:
    """Return the ONNX file of a packed model that has been admitted, unpacked into `folder` if it is a zip."""
    return unpack(path, folder, OURS) if is_zip(path) else path


def unpack(path: Path, folder: Path, budget: Budget) -> Path:
    """Unpack a model and what is beside it into the new `folder`; return the model file.

    Raises ModelExternalData unless there is exactly one .onnx file with everything else at its side, FormatUnsafe when
    there is none, and what `Archive` raises.
    """
    archive = Archive(path, budget)
    models = [name for name in archive.members if name.lower().endswith(".onnx")]
    if not models:
        raise FormatUnsafe("The file is a zip archive without an .onnx file (a PyTorch or Keras file?).")
    if len(models) > 1:
        raise ModelExternalData(f"The archive holds {len(models)} .onnx files; send each model by itself.")
    top = PurePosixPath(models[0]).parent
    for name in archive.members:
        if PurePosixPath(name).parent != top:
            raise ModelExternalData(f"The archive holds {shown(name)!r}, which is not beside the model.")
        if len(PurePosixPath(name).name.encode()) > _MAX_NAME_BYTES:
            raise ArchiveUnsafe(f"The name of member {shown(name)!r} is too long.")
    folder.mkdir(parents=True)
    for name in archive.members:
        with (folder / PurePosixPath(name).name).open("xb") as target:
            target.writelines(archive.chunks(name))
    return folder / PurePosixPath(models[0]).name
