"""Rows of single requests: every noun's routes with what a stranger may send instead of a request."""

import base64
import hashlib
import json
import socket
import time
from typing import Any

from app import signatures
from tests.hostile.rows import Row, call
from tests.hostile.service import OCTETS, PATIENCE_S, Answer, Service, answer_of

BAD, GONE, TYPE = (422, "validation-error"), (404, "not-found"), (415, "unsupported-encoding")
LARGE, ABSENT = (413, "payload-too-large"), "01m85q06xaqs6n45zp0mxvne2w"
JSON = {"Content-Type": "application/json"}
STEPS = [{"technique": "retrain", "epochs": 1}]
PARTS = {"Content-Type": "application/partial-upload"}


def job(**changes: Any) -> dict[str, Any]:
    return {"model": f"mdl_{ABSENT}", "dataset": f"dst_{ABSENT}", "recipe": {"steps": STEPS}, **changes}


def deep(levels: int) -> bytes:
    return b'{"tags":' * levels + b"1" + b"}" * levels


def ids() -> list[Row]:
    """Ids that are paths, programs or too much."""
    names = ["..%2f..%2fetc%2fpasswd", "%00", "a" * 4000, "mdl_%F0%9F%92%A9", "' OR 1=1 --", "CON", f"mdl_{ABSENT}"]
    places = ["models", "datasets", "jobs", "artifacts", "benchmarks", "uploads", "triggers"]
    rows = [
        call(f"{place}/{name[:20]}", GONE, "GET", f"/v1/{place}/{name}")
        for place in places for name in names
    ]  # fmt: skip
    deeper = ["jobs/{}/events", "jobs/{}/report", "artifacts/{}/content", "artifacts/{}/benchmarks"]
    return rows + [call(place, GONE, "GET", f"/v1/{place.format('%2e%2e')}") for place in deeper]


def bodies() -> list[Row]:
    """Bodies that are not what their route takes."""
    raw: dict[str, tuple[tuple[int, str], bytes]] = {
        "no JSON": (BAD, b"{"), "JSON of 100,000 levels": (BAD, b"[" * 100_000), "no object": (BAD, b"[]"),
        "objects of 1,000 levels": (BAD, deep(1000)),
        "digits by the million": (BAD, b'{"seed":' + b"9" * 900_000 + b"}"),
        "NaN": (BAD, b'{"seed": NaN}'), "half a surrogate": (BAD, b'{"model": "\\ud800"}'),
        "no UTF-8": (BAD, b'{"model": "\xff"}'), "NUL": (BAD, b'{"model": "mdl_\\u0000"}'),
        "empty": (BAD, b""),
        "too large": (LARGE, b" " * (2 << 20)),
    }  # fmt: skip
    routes = ("/v1/jobs", "/v1/triggers", "/v1/artifacts/{artifact}/benchmarks", "/v1/models", "/v1/datasets")
    rows = []
    for route in routes:
        for name, (expected, content) in raw.items():
            # Models and data sets stream: their JSON has a limit of its own.
            rows.append(call(f"{route}, {name}", expected, "POST", route, content=content, headers=JSON))
    yaml = {"Content-Type": "application/yaml"}
    rows.append(call("YAML", TYPE, "POST", "/v1/jobs", content=b"a: &a [*a]", headers=yaml))
    gz = {**JSON, "Content-Encoding": "gzip"}
    rows.append(call("compressed body", TYPE, "POST", "/v1/jobs", content=b"\x1f\x8b" + b"x" * 99, headers=gz))
    packed = {**OCTETS, "Content-Encoding": "gzip"}
    rows.append(call("compressed upload", TYPE, "POST", "/v1/models", content=b"\x1f\x8b", headers=packed))
    return rows


def orders() -> list[Row]:
    """Jobs, benchmarks and triggers that ask for what there is not."""
    asked: dict[str, Any] = {
        "unknown field": job(custom_op_library="x.so"),
        "unknown technique": job(recipe={"steps": [{"technique": "../../evil"}]}),
        "unknown option": job(recipe={"steps": [{"technique": "retrain", "library": "x.so"}]}),
        "seed below 0": job(seed=-1), "no steps": job(recipe={"steps": []}),
        "40 steps": job(recipe={"steps": STEPS * 40}),
        "endless epochs": job(recipe={"steps": [{"technique": "retrain", "epochs": 1e300}]}),
        "unknown model": job(), "name of a path": job(tags={"a": "x" * 501}),
        "teacher of nobody": job(recipe={"steps": [{"technique": "distill", "teacher": f"mdl_{ABSENT}"}]}),
        "another version": job(recipe={"version": 2, "steps": STEPS}), "data of another kind": job(dataset="mdl_x"),
        "years": job(limits={"max_run_s": 10**12}),
    }  # fmt: skip
    rows = [call(f"job, {name}", BAD, "POST", "/v1/jobs", json=body) for name, body in asked.items()]
    timed: dict[str, Any] = {
        "no batch": {"batch_sizes": []}, "batch of 2^31": {"batch_sizes": [2**31]}, "batch of 0": {"batch_sizes": [0]},
        "a thousand threads": {"threads": 1000}, "device of nobody": {"provider": "tpu"},
        "unknown file": {"variant": "../../x"}, "against nobody": {"against": f"mdl_{ABSENT}"},
        "session options": {"session_config": {"session.x": "1"}}, "endless": {"max_seconds": 1e9},
    }  # fmt: skip
    route = "/v1/artifacts/{artifact}/benchmarks"
    rows += [call(f"benchmark, {name}", BAD, "POST", route, json=body) for name, body in timed.items()]
    hooks: dict[str, Any] = {
        "no recipe": {"name": "t"}, "short secret": {"name": "t", "recipe": {"steps": STEPS}, "secret": "x"},
        "no base64": {"name": "t", "recipe": {"steps": STEPS}, "secret": "whsec_!!!!!!!!!!!!!!!!"},
        "name of 1,000": {"name": "n" * 1000, "recipe": {"steps": STEPS}},
        "address of a file": {"name": "t", "recipe": {"steps": STEPS}, "webhook": "file:///etc/passwd"},
    }  # fmt: skip
    return rows + [call(f"trigger, {name}", BAD, "POST", "/v1/triggers", json=body) for name, body in hooks.items()]


def parts() -> list[Row]:
    """Uploads in parts that do not fit together."""
    digest = {"Content-Digest": f"sha-256=:{base64.b64encode(hashlib.sha256(b'x').digest()).decode()}:"}
    wrong = {**OCTETS, **digest}
    opened = {"Upload-Length": "10", "Upload-Complete": "?0"}
    rows = [
        call("another digest", (422, "digest-mismatch"), "POST", "/v1/models", content=b"y" * 9, headers=wrong),
        call("no digest", BAD, "POST", "/v1/models", content=b"y", headers={**OCTETS, "Content-Digest": "sha-256=:x:"}),
        call("no length", (411, "length-required"), "POST", "/v1/uploads"),
        call("length below 0", BAD, "POST", "/v1/uploads", headers={"Upload-Length": "-1"}),
        call("length of words", BAD, "POST", "/v1/uploads", headers={"Upload-Length": "ten"}),
        call("length of 2^80", LARGE, "POST", "/v1/uploads", headers={"Upload-Length": str(2**80)}),
        call("half complete", BAD, "POST", "/v1/uploads", headers={"Upload-Length": "9", "Upload-Complete": "maybe"}),
        call("more than announced", LARGE, "POST", "/v1/uploads", content=b"x" * 99, headers=opened),
        call("pickle in a part", (415, "format-unsafe"), "POST", "/v1/uploads", content=b"\x80\x04\x95" + b"x" * 7,
             headers=opened),
        call("name of a pickle", (415, "format-unsafe"), "POST", "/v1/models?name=a.pkl", content=b"x", headers=OCTETS),
        call("unknown format", BAD, "POST", "/v1/models?format=pickle", content=b"x", headers=OCTETS),
        call("unknown parameter", BAD, "POST", "/v1/models?trust_remote_code=1", content=b"x", headers=OCTETS),
        call("form without a file", BAD, "POST", "/v1/models", content=b"--x--\r\n",
             headers={"Content-Type": "multipart/form-data; boundary=x"}),
        call("form without a boundary", TYPE, "POST", "/v1/models", content=b"x",
             headers={"Content-Type": "multipart/form-data"}),
    ]  # fmt: skip
    return [*rows, Row("part at another place", _misplaced, 409, ("offset-mismatch",)),
            Row("part of another type", lambda service: _misplaced(service, b"x", {}), 415, ("unsupported-encoding",)),
            Row("key for two requests", _reused, 422, ("idempotency-key-reused",))]  # fmt: skip


def _misplaced(service: Service, content: bytes = b"x", headers: dict[str, str] | None = None) -> Answer:
    opened = service.call("POST", "/v1/uploads", headers={"Upload-Length": "10", "Upload-Complete": "?0"})
    sent = {**PARTS, "Upload-Offset": "7"} if headers is None else headers
    return service.call("PATCH", f"/v1/uploads/{opened.body['id']}", content=content, headers=sent)


def _reused(service: Service) -> Answer:
    wanted = {"model": service.known["model"], "recipe": {"steps": [], "pack": {}}}
    key = {"Idempotency-Key": f"twice-{time.monotonic_ns()}"}
    first = service.call("POST", "/v1/jobs", json=wanted, headers=key)
    service.ended(f"/v1/jobs/{first.body['id']}")
    return service.call("POST", "/v1/jobs", json={**wanted, "seed": 9}, headers=key)


def reads() -> list[Row]:
    """Downloads, events and lists with odd wishes."""
    content, ranges = "/v1/artifacts/{artifact}/content", ",".join(f"{n}-{n}" for n in range(10_000))
    return [
        call("ranges by the thousand", (200, ""), "GET", content, headers={"Range": f"bytes={ranges[:30_000]}"}),
        call("header of a megabyte", (431, "headers-too-large"), "GET", content, headers={"X-Long": "a" * 1_000_000}),
        call("query too long", (431, "headers-too-large"), "GET", "/v1/jobs?after=" + "a" * 65_000,
             headers={"X-Long": "a" * 1_000}),
        call("range past the end", (416, "range-not-satisfiable"), "GET", content,
             headers={"Range": "bytes=99999999-"}),
        call("range of words", (200, ""), "GET", content, headers={"Range": "bytes=a-b"}),
        call("unknown variant", BAD, "GET", content + "?variant=../../x"),
        call("events from nowhere", BAD, "GET", "/v1/jobs/{job}/events?after=-1"),
        call("events after words", (200, ""), "GET", "/v1/jobs/{job}/events", headers={"Last-Event-ID": "x" * 1000}),
        call("events as YAML", (406, "not-acceptable"), "GET", "/v1/jobs/{job}/events",
             headers={"Accept": "application/yaml"}),
        call("report as pickle", (406, "not-acceptable"), "GET", "/v1/jobs/{job}/report",
             headers={"Accept": "application/x-pickle"}),
        call("page of 10^9", BAD, "GET", "/v1/jobs?limit=1000000000"),
        call("page after a quote", BAD, "GET", "/v1/models?after='"),
        call("state of nothing", BAD, "GET", "/v1/jobs?state=queued,evil"),
        call("method of nobody", (405, "method-not-allowed"), "DELETE", "/v1/jobs"),
        call("no such route", GONE, "GET", "/v1/../../etc/passwd"),
        call("cancel at the end", (409, "conflict"), "POST", "/v1/jobs/{job}/cancel"),
        call("foreign page", (403, "cross-site-refused"), "POST", "/v1/jobs", json={},
             headers={"Origin": "https://evil.example"}),
        call("foreign name", (403, "cross-site-refused"), "GET", "/v1/jobs", headers={"Host": "evil.example"}),
    ]  # fmt: skip


SECRET = "a secret of the hook"


def _hook(service: Service) -> str:
    made = service.call("POST", "/v1/triggers", json={"name": "t", "recipe": {"steps": STEPS}, "secret": SECRET})
    return str(made.body["hook"])


def _delivered(service: Service, body: bytes, *, age_s: int = 0, sent: bytes | None = None) -> Answer:
    stamp, name = int(time.time()) - age_s, f"msg_{time.monotonic_ns()}"
    signature = signatures.sign(SECRET, name, stamp, body)
    headers = {"webhook-id": name, "webhook-timestamp": str(stamp), "webhook-signature": signature, **JSON}
    return service.call("POST", _hook(service), content=body if sent is None else sent, headers=headers)


def hooks() -> list[Row]:
    """Deliveries that nobody signed, or that are no events."""
    unsigned = (401, "signature-invalid")
    event = json.dumps({"type": "a", "data": {"model": "mdl_../../x"}}).encode()
    return [
        call("delivery without a signature", unsigned, "POST", f"/v1/hooks/trg_{ABSENT}", content=b"{}"),
        call("delivery to a path", GONE, "POST", "/v1/hooks/..%2f..%2fx", content=b"{}"),
        Row("delivery of yesterday", lambda service: _delivered(service, b"{}", age_s=301), 401, unsigned[1:]),
        Row("delivery changed on its way", lambda service: _delivered(service, b"{}", sent=b"{ }"), 401, unsigned[1:]),
        Row("delivery of no JSON", lambda service: _delivered(service, b"[" * 100_000), 422, BAD[1:]),
        Row("delivery of a list", lambda service: _delivered(service, b"[]"), 422, BAD[1:]),
        Row("delivery that names a path", lambda service: _delivered(service, event), 200),
    ]


def _raw(request: bytes, *, close: bool = True) -> Any:
    def send(service: Service) -> Answer:
        with socket.create_connection(("127.0.0.1", service.port), PATIENCE_S) as plug:
            host = f"Host: 127.0.0.1:{service.port}\r\n".encode()
            plug.sendall(request.replace(b"HOST\r\n", host))
            if close:
                plug.shutdown(socket.SHUT_WR)
            said = b""
            while piece := plug.recv(65_536):
                said += piece
        head, _, body = said.partition(b"\r\n\r\n")
        status = int(head.split()[1]) if head.startswith(b"HTTP/1.1 ") else 0
        return service.keep(answer_of(status, body, head.decode("latin-1"), 0.0))

    return send


def sockets() -> list[Row]:
    """What no client library would send. What is no HTTP is answered by the server's own plain 400."""
    post = b"POST /v1/models HTTP/1.1\r\nHOST\r\nContent-Type: application/octet-stream\r\nConnection: close\r\n"
    get = b"GET /healthz HTTP/1.1\r\nHOST\r\nConnection: close\r\n"
    return [
        Row("no HTTP", _raw(b"\x16\x03\x01\x02\x00" + b"x" * 512 + b"\r\n\r\n"), 400),
        Row("content length below 0", _raw(post + b"Content-Length: -5\r\n\r\n"), 400),
        Row("two lengths", _raw(post + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello"), 400),
        Row("a broken piece", _raw(post + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n"), 400),
        Row("request id that clears the screen", _raw(get + b"X-Request-Id: a\x1b[2J\r\n\r\n"), 400),
        Row("request id of a script", _raw(get + b"X-Request-Id: <script>\r\n\r\n"), 200),
    ]


def rows() -> list[Row]:
    """Return every row of a single request."""
    return [*ids(), *bodies(), *orders(), *parts(), *reads(), *hooks(), *sockets()]
