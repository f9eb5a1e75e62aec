import json
import logging
from collections.abc import Iterator

import httpx
import pytest
import structlog

from app.logging import configure, printable
from tests.stand_in.source import serving


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root, before = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers[:], root.level
    yield
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**before)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_every_line_is_json_with_the_bound_job(capsys: pytest.CaptureFixture[str]) -> None:
    configure()
    with structlog.contextvars.bound_contextvars(work="job_1"):
        structlog.stdlib.get_logger("a").info("starts")
        logging.getLogger("celery").warning("got %s", 3)
    assert [(line["event"], line["work"]) for line in lines(capsys)] == [("starts", "job_1"), ("got 3", "job_1")]


def test_a_stranger_s_name_stays_on_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure()
    structlog.stdlib.get_logger("a").info("model", name="a\r\n\x1b[31m\u202e" + "x" * 1_000)
    found = lines(capsys)
    assert len(found) == 1
    assert str(found[0]["name"]).startswith("a\\u000d\\u000a\\u001b[31m\\u202ex")
    assert len(str(found[0]["name"])) < 230


def test_secrets_are_redacted_at_any_depth(capsys: pytest.CaptureFixture[str]) -> None:
    configure()
    structlog.stdlib.get_logger("a").info("x", api_key="k", given={"webhook_secret": "s", "plain": "p"})
    (line,) = lines(capsys)
    assert (line["api_key"], line["given"]) == ("[redacted]", {"webhook_secret": "[redacted]", "plain": "p"})


def test_text_is_cut_at_the_limit() -> None:
    assert printable("abcdef", 4) == "abc…"


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("redis://:pw@host:1/0", "redis://[redacted]@host:1/0"),
        ("cannot open postgresql+psycopg://me:p:w@db/x now", "cannot open postgresql+psycopg://[redacted]@db/x now"),
        (f"key mp_abcdefgh{'Z' * 35}.", "key mp_abcdefgh[redacted]."),
        ("whsec_c2VjcmV0c2VjcmV0", "[redacted]"),
        ("{'authorization': 'Bearer abc.def'}", "{'authorization': 'Bearer [redacted]'}"),
        ("https://example.org/a@b", "https://example.org/a@b"),
        ("bearer", "bearer"),
    ],
)
def test_secrets_are_known_by_their_look(said: str, kept: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure()
    structlog.stdlib.get_logger("a").info(said, given=[{"deep": said}], fault=ValueError(said))
    logging.getLogger("b").warning("%s", said)

    ours, theirs = lines(capsys)

    assert (ours["event"], ours["given"], ours["fault"], theirs["event"]) == (kept, [{"deep": kept}], kept, kept)


def test_secret_is_redacted_before_the_text_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    configure()
    structlog.stdlib.get_logger("a").info("x", name=f"{'a' * 170} mp_{'k' * 43}")

    assert "k" * 9 not in str(lines(capsys)[0]["name"])


def test_addresses_that_are_contacted_are_in_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure("DEBUG")
    with serving(b"content") as source:
        assert httpx.get(f"{source.url}?signature=s3cr3t", trust_env=False).is_success

    assert "signature=s3cr3t" in source.asked[0]["path"]
    assert "s3cr3t" not in str(lines(capsys))
