"""A source in MLflow's registry: which of a version's files make the model, brought in the form of an upload."""

import asyncio
import hashlib
import re
import zipfile
from pathlib import Path, PurePosixPath

from app.contracts.source import MlflowSource
from app.errors import SourceRefused
from app.stores.sinks import Stored
from workers.fetching.download import Say, download, patiently, refuse_longer
from workers.registry import Listed, Registry, Version

_MLMODEL = "MLmodel"
_MLMODEL_BYTES = 1 << 20
# What MLflow writes beside a model. Any other file there holds weights: their names are random and have no suffix.
_BESIDE = {_MLMODEL, "registered_model_meta", "input_example.json", "serving_input_example.json"}
_TEXTS = {".yaml", ".yml", ".txt", ".json", ".md", ".py"}
_ONNX_FLAVOR = re.compile(r"^flavors:\n(?:[ ].*\n)*?[ ]+onnx:\n(?P<fields>(?:[ ]{4,}.*\n?)*)", re.MULTILINE)
_DATA = re.compile(r"^[ ]+data: *['\"]?(?P<path>[^'\"\n]+?)['\"]? *$", re.MULTILINE)


async def find(registry: Registry, source: MlflowSource, unless: str | None) -> Version:
    """Return the version that is meant; raises SourceRefused for none, and for one with the tag `unless`."""

    async def ask() -> Version:
        if source.version is not None:
            return await registry.version(source.name, source.version)
        return await registry.version_of_alias(source.name, source.alias or "")

    version = await patiently(ask)
    if unless in version.tags:
        raise SourceRefused("This service registered the version itself: it is not compressed again.")
    return version


async def bring(registry: Registry, version: Version, folder: Path, limit: int, say: Say) -> tuple[Path, Stored]:
    """Write the version's ONNX file to `folder`, or a zip of it and its data files; return the path, digest and size.

    Raises what `download` raises, and SourceRefused for a version that holds no ONNX model.
    """
    root = await patiently(lambda: registry.root(version))
    listed = {one.path: one for one in await patiently(lambda: registry.files(root))}
    onnx = PurePosixPath(await _named(registry, root, folder, listed))
    if onnx.parent.as_posix() != ".":
        root = f"{root}/{onnx.parent}"
        listed = {one.path: one for one in await patiently(lambda: registry.files(root))}
    return await _download(registry, root, chosen(onnx.name, listed), folder, limit, say)


async def _named(registry: Registry, root: str, folder: Path, listed: dict[str, Listed]) -> str:
    """Return the path of the ONNX file: as MLmodel has it, else the only one there is."""
    if _MLMODEL in listed:
        path = folder / _MLMODEL
        await download(registry.file(root, _MLMODEL).open, path, _MLMODEL_BYTES, lambda _came, _size: None)
        named = onnx_data(path.read_text("utf-8", "replace"))
        if named is not None:
            return named
    found = [path for path in listed if path.endswith(".onnx")]
    if len(found) != 1:
        raise SourceRefused(f"The version holds {len(found)} .onnx files and names none of them: log it as ONNX.")
    return found[0]


def onnx_data(mlmodel: str) -> str | None:
    """Return the path of the ONNX flavour's file as an MLmodel file has it, or None.

    MLflow writes these files itself, as plain blocks; a whole reader of YAML would be more than two names need.
    """
    flavor = _ONNX_FLAVOR.search(mlmodel)
    data = _DATA.search(flavor["fields"]) if flavor else None
    if data is None:
        return None
    parts = PurePosixPath(data["path"]).parts
    if ".." in parts or parts[0] == "/":
        raise SourceRefused("The version's MLmodel names a file outside of the version.")
    return "/".join(parts)


def chosen(onnx: str, listed: dict[str, Listed]) -> list[Listed]:
    """Return the ONNX file and what lies beside it and is none of MLflow's own: its weights. Raises SourceRefused."""
    if onnx not in listed:
        raise SourceRefused("The version's MLmodel names an ONNX file that is not there.")
    others = [path for path in sorted(listed) if path != onnx and path not in _BESIDE]
    weights = [path for path in others if PurePosixPath(path).suffix not in _TEXTS]
    return [listed[path] for path in (onnx, *weights)]


async def _download(
    registry: Registry, root: str, files: list[Listed], folder: Path, limit: int, say: Say
) -> tuple[Path, Stored]:
    whole, before = sum(one.size_bytes for one in files), 0
    refuse_longer(whole, limit)
    paths = []
    for number, one in enumerate(files):

        def tell(came: int, _size: int | None, before: int = before) -> None:
            say(before + came, whole)

        paths.append(folder / f"part-{number}")
        stored = await download(registry.file(root, one.path).open, paths[-1], limit - before, tell)
        before += stored.size_bytes
    if len(files) == 1:
        return paths[0], stored
    parts = {one.path: path for one, path in zip(files, paths, strict=True)}
    return await asyncio.to_thread(_zipped, folder / "model.zip", parts)


def _zipped(path: Path, files: dict[str, Path]) -> tuple[Path, Stored]:
    """Zip files side by side: uncompressed, the same bytes for the same files."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, file in files.items():
            with file.open("rb") as source, archive.open(zipfile.ZipInfo(name), "w", force_zip64=True) as member:
                while chunk := source.read(1 << 22):
                    member.write(chunk)
            file.unlink()
    with path.open("rb") as whole:
        return path, Stored(hashlib.file_digest(whole, "sha256").hexdigest(), path.stat().st_size)
