"""CloudEvents in both modes: what is read of them, and what is no event."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import EventMalformed
from app.events import cloud

STRUCTURED = {"content-type": "application/cloudevents+json; charset=utf-8"}
ATTRIBUTES = {"specversion": "1.0", "id": "1", "source": "/registry", "type": "model.registered", "subject": "spam"}
HEADERS = {f"ce-{name}": value for name, value in ATTRIBUTES.items()}
DATA = {"model": "mdl_1", "name": "spam"}


def structured(**changes: Any) -> bytes:
    document = {**ATTRIBUTES, "data": DATA, **changes}
    return json.dumps({name: value for name, value in document.items() if value is not None}).encode()


def test_both_modes_say_the_same() -> None:
    body = json.dumps(DATA).encode()
    modes = [
        cloud(STRUCTURED, structured()),
        cloud(STRUCTURED, structured(data=None, data_base64=base64.b64encode(body).decode())),
        cloud({**HEADERS, "content-type": "application/json"}, body),
        cloud({**HEADERS, "content-type": "application/vnd.registry+json; charset=utf-8"}, body),
    ]

    for event in modes:
        assert (event.name, event.source, event.subject, event.data) == ("model.registered", "/registry", "spam", DATA)


@pytest.mark.parametrize(
    ("sent", "read"),
    [("Caf%C3%A9 %22%25%22", 'Café "%"'), ('"a \\"b\\" c"', 'a "b" c'), ("%2520", "%20"), ("plain", "plain")],
)
def test_headers_are_decoded_once(sent: str, read: str) -> None:
    assert cloud({**HEADERS, "ce-subject": sent}, b"").subject == read


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"content-type": "text/plain"}, b"no json"),
        ({}, b""),
        ({"content-type": "application/json"}, b"[1, 2]"),
    ],
)
def test_data_that_is_no_object_is_of_no_concern(headers: dict[str, str], body: bytes) -> None:
    assert cloud({**HEADERS, **headers}, body).data == {}


def test_extensions_and_times_are_allowed() -> None:
    body = structured(traceparent="00-1", time="2026-11-27T12:00:00.123456789Z", sequence=7)

    assert cloud(STRUCTURED, body).name == "model.registered"


@pytest.mark.parametrize(
    ("headers", "body", "said"),
    [
        ({}, b"{}", "no CloudEvent"),
        ({"content-type": "application/json"}, structured(), "no CloudEvent"),
        ({"content-type": "application/cloudevents-batch+json"}, b"[]", "Batches"),
        ({"content-type": "application/cloudevents+avro"}, b"", r"\+avro is not read"),
        (STRUCTURED, b"[" + structured() + b"]", "batches"),
        (STRUCTURED, b"{", "not"),
        (STRUCTURED, b"[" * 100_000, "not"),
        (STRUCTURED, structured(specversion="0.3"), "specversion"),
        (STRUCTURED, structured(id=None), "id is needed"),
        (STRUCTURED, structured(id=7), "id is needed"),
        (STRUCTURED, structured(source=""), "source is needed"),
        (STRUCTURED, structured(type=["x"]), "type is needed"),
        (STRUCTURED, structured(subject={}), "subject"),
        (STRUCTURED, structured(time="yesterday"), "RFC 3339"),
        (STRUCTURED, structured(time="2026-13-45T99:00:00Z"), "RFC 3339"),
        (STRUCTURED, structured(Upper="x"), "lower-case"),
        (STRUCTURED, structured(data_base64="e30="), "data or data_base64"),
        (STRUCTURED, structured(data=None, data_base64="?"), "not base64"),
        (STRUCTURED, structured(data=None, data_base64="e30"), "not base64"),
        ({**HEADERS, "ce-type": ""}, b"", "type is needed"),
        ({**HEADERS, "ce-specversion": "2.0"}, b"", "specversion"),
        ({**HEADERS, "ce-subject": "%FF"}, b"", "UTF-8"),
        ({**HEADERS, "content-type": "application/json"}, b"{", "is not"),
        ({"content-type": "application/json", "ce-id": "1"}, b"{}", "specversion"),
    ],
)
def test_what_is_no_event_is_refused_in_words(headers: dict[str, str], body: bytes, said: str) -> None:
    with pytest.raises(EventMalformed, match=said):
        cloud(headers, body)


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from([*HEADERS, "content-type", "ce-time", "ce-x_y"]),
        st.sampled_from(["1.0", "application/cloudevents+json", "application/json"])
        | st.text('aé%F"\\ :', max_size=20),
    ),
    st.binary(max_size=50) | st.just(structured()),
)
def test_any_delivery_is_an_event_or_malformed(headers: dict[str, str], body: bytes) -> None:
    try:
        event = cloud(headers, body)
    except EventMalformed:
        return
    assert event.name
    assert event.source
