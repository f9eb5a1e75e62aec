import hashlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import zstandard

from modelpress.downloads import _append
from modelpress.errors import TransferError
from modelpress.uploads import digest_field

CONTENT = b"weights" * 1000
CODED = zstandard.compress(CONTENT)


class Sent(httpx.SyncByteStream):
    def __iter__(self) -> Iterator[bytes]:
        yield CODED[:10]
        yield CODED[10:]


def answer(digest_of: bytes, tag: str = '"x-zstd"') -> httpx.Response:
    digest = digest_field(hashlib.sha256(digest_of).digest())
    headers = {"Content-Encoding": "zstd", "ETag": tag, "Repr-Digest": digest}
    return httpx.Response(200, headers=headers, stream=Sent())


def test_zstd_answer_when_its_digest_is_right(tmp_path: Path) -> None:
    _append(answer(CODED), tmp_path / "part", len(CONTENT), None)

    assert (tmp_path / "part").read_bytes() == CONTENT


def test_zstd_answer_when_its_digest_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(TransferError):
        _append(answer(b"other bytes"), tmp_path / "part", len(CONTENT), None)

    assert not (tmp_path / "part").exists()


def test_zstd_answer_when_a_proxy_coded_it_the_digest_is_of_the_plain_bytes(tmp_path: Path) -> None:
    _append(answer(CONTENT, tag='W/"x"'), tmp_path / "part", len(CONTENT), None)

    assert (tmp_path / "part").read_bytes() == CONTENT
