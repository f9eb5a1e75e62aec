"""Refuse formats that can carry code, as early as their name or first bytes show it. Opens nothing."""

from pathlib import Path, PurePosixPath

from app.errors import FormatUnsafe

HEAD_BYTES = 128  # enough for the magic numbers and the first member name of a zip file
_UNSAFE_SUFFIXES = frozenset({".pt", ".pth", ".pt2", ".pkl", ".pickle", ".bin", ".joblib", ".ckpt"})
_PICKLE_MARK = 0x80  # the PROTO opcode, followed by a protocol number
_PICKLE_PROTOCOLS = range(2, 6)
_ZIP_MAGIC = b"PK\x03\x04"
_ZIP_NAME_OFFSET = 30  # of the file name in a local file header (APPNOTE 4.3.7)


def refuse_unsafe_name(name: str | None) -> None:
    """Raise FormatUnsafe for a file name whose suffix means pickle."""
    suffix = PurePosixPath(name or "").suffix.lower()
    if suffix in _UNSAFE_SUFFIXES:
        msg = f"A {suffix} file can carry code. Upload ONNX, or a Hugging Face folder with safetensors weights."
        raise FormatUnsafe(msg)


def refuse_unsafe_head(head: bytes) -> None:
    """Raise FormatUnsafe for the first bytes of a pickle or of a PyTorch archive."""
    if len(head) > 1 and head[0] == _PICKLE_MARK and head[1] in _PICKLE_PROTOCOLS:
        msg = "The file is a pickle, which can carry code. Upload ONNX, or a folder with safetensors weights."
        raise FormatUnsafe(msg)
    if head.startswith(_ZIP_MAGIC) and b"data.pkl" in head[_ZIP_NAME_OFFSET:]:
        msg = "The file is a PyTorch archive, which can carry code. Export it with torch.onnx.export first."
        raise FormatUnsafe(msg)


def refuse_unsafe_file(path: Path) -> None:
    """Raise FormatUnsafe for a file that begins like a pickle or a PyTorch archive."""
    with path.open("rb") as file:
        refuse_unsafe_head(file.read(HEAD_BYTES))
