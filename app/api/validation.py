"""Turn pydantic's findings into JSON pointers and sentences; tags of unions, which no client wrote, are left out."""

import json
from collections.abc import Sequence
from typing import Any, TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from app.api.problems import problem_response
from app.contracts.base import Contract
from app.errors import BadInput, ModelpressError, NotFound, UnsupportedEncoding

_SHOWN = 20  # faults named in one answer
_PARTS = {"query": "query parameter", "header": "header", "path": "path", "cookie": "cookie"}
Body = TypeVar("Body", bound=Contract)


def parse(kind: type[Body], raw: bytes) -> Body:
    """Return the contract in a JSON body; raises BadInput with pointers."""
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise _not_json(error) from error
    return validated(kind, document)


def validated(kind: type[Body], document: object) -> Body:
    """Return the contract of parsed JSON; raises BadInput with pointers."""
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        raise _refusal(error.errors(), document) from error


def on_invalid_request(request: Request, error: Exception) -> Response:
    """Answer what FastAPI's own validation found."""
    found = error if isinstance(error, RequestValidationError) else RequestValidationError([])
    return problem_response(_framework_refusal(request, found), request.state.request_id)


def _framework_refusal(request: Request, error: RequestValidationError) -> ModelpressError:
    faults = error.errors()
    if any(fault["loc"][:1] == ("path",) for fault in faults):
        return NotFound()
    outside = [fault for fault in faults if fault["loc"][0] != "body"]
    if outside:
        said = "; ".join(f"{_PARTS[fault['loc'][0]]} `{fault['loc'][-1]}`: {_said(fault)}" for fault in outside)
        return BadInput(f"{said[:1].upper()}{said[1:]}.")
    if any(fault["type"] == "json_invalid" for fault in faults):
        return _not_json(None)
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type and not _is_json(media_type):
        return UnsupportedEncoding("Send the body as application/json.")
    return _refusal([{**fault, "loc": fault["loc"][1:]} for fault in faults], error.body)


def _is_json(media_type: str) -> bool:
    return media_type == "application/json" or (media_type.startswith("application/") and media_type.endswith("+json"))


def _not_json(error: Exception | None) -> BadInput:
    place = f" at character {error.pos}" if isinstance(error, json.JSONDecodeError) else ""
    return BadInput(f"The body is not valid JSON{place}.")


def _refusal(faults: Sequence[Any], document: object) -> BadInput:
    found: dict[str, str] = {}
    for fault in faults:
        found.setdefault(_pointer(fault, document), _said(fault))
    pairs = list(found.items())[:_SHOWN]
    first_pointer, first_said = pairs[0]
    more = f" ({len(found) - 1} more)" if len(found) > 1 else ""
    return BadInput(f"{first_pointer or 'The body'}: {first_said}{more}", errors=pairs)


def _pointer(fault: Any, document: object) -> str:  # noqa: ANN401 - pydantic's ErrorDetails, or FastAPI's copy of one
    """Walk the body along the fault's location; what is not in the body and is not a missing field is a tag."""
    path, here = "", document
    for position, key in enumerate(fault["loc"]):
        last = position == len(fault["loc"]) - 1
        inside = (isinstance(here, dict) and key in here) or (isinstance(here, list) and isinstance(key, int))
        if not inside and not (last and fault["type"] == "missing"):
            continue
        path += "/" + str(key).replace("~", "~0").replace("/", "~1")
        if isinstance(here, dict):
            here = here.get(key)
        elif isinstance(here, list) and isinstance(key, int) and key < len(here):
            here = here[key]
    return path


def _said(fault: Any) -> str:  # noqa: ANN401 - as above
    match fault["type"]:
        case "missing":
            return "this field is needed"
        case "extra_forbidden":
            return "there is no such field"
        case "union_tag_invalid":
            return f"unknown {fault['ctx']['discriminator']}; known are {fault['ctx']['expected_tags']}"
        case "union_tag_not_found":
            return f"{fault['ctx']['discriminator']} must be given"
        case "string_pattern_mismatch":
            return "this is not a value of the right form"
        case "model_type" | "model_attributes_type" | "dict_type":
            return "a JSON object is needed"
    return str(fault["msg"]).removeprefix("Value error, ").removeprefix("Input ")
