"""What a delivery says: events of MLflow, plain JSON, and CloudEvents 1.0 over HTTP. Knows no trigger and no signature.

CloudEvents come in structured mode (`application/cloudevents+json`: attributes and data in one body) or in binary mode
(attributes in `ce-…` headers, the body is the data): https://github.com/cloudevents/spec, HTTP Protocol Binding 1.0.2.
"""

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import unquote

from app.errors import BadInput, EventMalformed

_STRUCTURED = "application/cloudevents"
_REQUIRED = ("id", "source", "type")
_TEXTS = ("subject", "dataschema", "datacontenttype", "time")
_NAME = re.compile(r"[a-z0-9]+")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")


@dataclass(frozen=True)
class Event:
    """What happened (`type`, or `entity.action`), to what, and what is told of it; `data` is empty if no object."""

    name: str
    data: Mapping[str, Any]
    source: str | None = None
    subject: str | None = None


def plain(body: bytes) -> Event:
    """Read an event of MLflow or any JSON object; raises BadInput."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        msg = "The delivery is not valid JSON."
        raise BadInput(msg) from error
    if not isinstance(document, dict):
        msg = "The delivery must be a JSON object."
        raise BadInput(msg)
    inner = document.get("data")
    both = "entity" in document and "action" in document
    name = f"{document['entity']}.{document['action']}" if both else str(document.get("type", ""))
    return Event(name, inner if isinstance(inner, dict) else document)


def cloud(headers: Mapping[str, str], body: bytes) -> Event:
    """Read a CloudEvent in either mode; header names in lower case. Raises EventMalformed."""
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if not media_type.startswith(_STRUCTURED):
        attributes = _of_headers(headers)
        _refuse_malformed(attributes)
        return _event(attributes, _json(body) if _is_json(media_type) else None)
    if media_type != f"{_STRUCTURED}+json":
        batch = media_type.startswith(f"{_STRUCTURED}-batch")
        said = "Batches are not taken: send each event by itself" if batch else f"{media_type[:100]} is not read"
        raise EventMalformed(f"{said}, as application/cloudevents+json or with ce- headers.")
    document = _json(body)
    if not isinstance(document, dict):
        raise EventMalformed("The body must be one event, a JSON object; batches are not taken.")
    attributes = {name: value for name, value in document.items() if name not in {"data", "data_base64"}}
    _refuse_malformed(attributes)
    return _event(attributes, _data(document))


def _event(attributes: Mapping[str, Any], data: object) -> Event:
    told = data if isinstance(data, dict) else {}
    return Event(attributes["type"], told, attributes["source"], attributes.get("subject"))


def _of_headers(headers: Mapping[str, str]) -> dict[str, str]:
    found = {name[3:]: _text(value) for name, value in headers.items() if name.startswith("ce-")}
    if not found:
        raise EventMalformed(
            "This is no CloudEvent: send application/cloudevents+json, or ce- headers beside the event's data."
        )
    return found


def _text(value: str) -> str:
    """Return what a header's value stands for: it may be quoted, and holds UTF-8 percent-encoded."""
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = re.sub(r"\\(.)", r"\1", value[1:-1])
    try:
        return unquote(value, errors="strict")
    except UnicodeDecodeError as error:
        raise EventMalformed("A ce- header holds percent-encoded bytes that are not UTF-8.") from error


def _data(document: Mapping[str, Any]) -> object:
    coded = document.get("data_base64")
    if coded is None:
        return document.get("data")
    if "data" in document or not isinstance(coded, str):
        raise EventMalformed("An event has data or data_base64, the latter as a text.")
    try:
        content = base64.b64decode(coded, validate=True)
    except binascii.Error as error:
        raise EventMalformed("The data_base64 is not base64.") from error
    media_type = str(document.get("datacontenttype", "application/json")).partition(";")[0].strip().lower()
    return _json(content) if _is_json(media_type) else None


def _refuse_malformed(attributes: Mapping[str, Any]) -> None:
    """Raise EventMalformed for attributes that CloudEvents 1.0 does not allow."""
    if attributes.get("specversion") != "1.0":
        raise EventMalformed("The attribute specversion must be 1.0.")
    for name in _REQUIRED:
        if not (isinstance(attributes.get(name), str) and attributes[name]):
            raise EventMalformed(f"The attribute {name} is needed, a text that is not empty.")
    for name in _TEXTS:
        if attributes.get(name) is not None and not (isinstance(attributes[name], str) and attributes[name]):
            raise EventMalformed(f"The attribute {name} must be a text that is not empty.")
    for name in attributes:
        if not _NAME.fullmatch(name):
            raise EventMalformed("Names of attributes have lower-case letters and digits alone.")
    if attributes.get("time") is not None and not _is_time(attributes["time"]):
        raise EventMalformed("The attribute time must be one of RFC 3339, such as 2026-11-27T12:00:00Z.")


def _is_time(text: str) -> bool:
    if not (text.isascii() and _TIME.fullmatch(text)):
        return False
    try:
        datetime.fromisoformat(re.sub(r"\.\d+", "", text.upper()))
    except ValueError:
        return False
    return True


def _is_json(media_type: str) -> bool:
    return media_type in {"application/json", "text/json"} or media_type.endswith("+json")


def _json(content: bytes) -> object:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise EventMalformed("The event, or its data, is said to be JSON and is not.") from error
