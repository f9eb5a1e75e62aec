"""What is kept of the files that a child leaves."""

from pathlib import Path

import pytest

from tests.stand_in import stack
from workers.kinds.base import keep


@pytest.mark.parametrize(("content", "zipped"), [(b"\x08\x0a model", False), (b"PK\x03\x04 model", True), (b"", False)])
def test_file_is_known_for_an_archive_when_kept(tmp_path: Path, content: bytes, zipped: bool) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "packed.onnx").write_bytes(content)

    with stack.open_stores(stack.settings_for(tmp_path)) as resources:
        kept = keep(resources, tmp_path, "packed.onnx")

    assert (kept.zipped, kept.stored.size_bytes) == (zipped, len(content))
