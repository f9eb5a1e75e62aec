"""API keys from their making to their end: what they open, for how long, and where they are not to be found."""

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import httpx
import pytest

from app import keys as command
from app.resources import Resources, connect
from app.services import keys
from app.stores import tables
from app.stores.keys import HOLDS_S, KeyCache, Known
from tests.app.seeds import UNKNOWN
from tests.app.tenants import OURS, THEIRS, Tenants


@pytest.fixture
async def admin(tenants: Tenants) -> Any:
    async with tenants.client(OURS) as client:
        yield client


async def made(client: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    answer = await client.post("/v1/keys", json={"name": "pipeline", **fields})
    assert answer.status_code == 201, answer.text
    assert answer.headers["Location"] == f"/v1/keys/{answer.json()['id']}"
    return dict(answer.json())


async def status(tenants: Tenants, key: str, method: str = "GET", path: str = "/v1/models") -> int:
    async with tenants.client(key) as client:
        return (await client.request(method, path)).status_code


def later(resources: Resources) -> None:
    """Forget what this process remembers, as it does by itself after HOLDS_S."""
    resources.keys.forget()


async def test_key_opens_its_tenant_and_is_shown_once(tenants: Tenants, admin: httpx.AsyncClient) -> None:
    key = await made(admin)

    assert await status(tenants, key["key"]) == 200
    assert key["key"].startswith(key["prefix"])
    listed = (await admin.get("/v1/keys")).json()["items"]
    assert [(item["id"], item["key"]) for item in listed] == [(key["id"], None)]
    assert (await admin.get(f"/v1/keys/{key['id']}")).json()["key"] is None


async def test_only_the_digest_is_kept(admin: httpx.AsyncClient, resources: Resources) -> None:
    key = (await made(admin))["key"]

    database = str(resources.settings.data_dir / "modelpress.db")
    connection = sqlite3.connect(database)
    dump = "\n".join(connection.iterdump())
    connection.close()
    assert key not in dump
    assert key[20:] not in dump
    assert keys._digest(key) in dump


async def test_revoked_key_opens_nothing_and_stays_listed(
    tenants: Tenants, admin: httpx.AsyncClient, resources: Resources
) -> None:
    key = await made(admin)
    assert await status(tenants, key["key"]) == 200

    assert (await admin.delete(f"/v1/keys/{key['id']}")).status_code == 204

    assert await status(tenants, key["key"]) == 401
    revoked_at = (await admin.get(f"/v1/keys/{key['id']}")).json()["revoked_at"]
    assert revoked_at
    assert (await admin.delete(f"/v1/keys/{key['id']}")).status_code == 204
    assert (await admin.get(f"/v1/keys/{key['id']}")).json()["revoked_at"] == revoked_at


async def test_key_revoked_by_another_gateway_holds_for_seconds_only(
    tenants: Tenants, admin: httpx.AsyncClient, resources: Resources
) -> None:
    key = await made(admin)
    assert await status(tenants, key["key"]) == 200
    with connect(resources.settings) as elsewhere:
        keys.revoke(keys.Caller("default", elsewhere), key["id"])
    assert await status(tenants, key["key"]) == 200

    present = resources.keys._clock
    resources.keys._clock = lambda: present() + HOLDS_S

    assert await status(tenants, key["key"]) == 401
    assert HOLDS_S <= 5


async def test_expired_key_opens_nothing(tenants: Tenants, admin: httpx.AsyncClient, resources: Resources) -> None:
    key = await made(admin, expires_in_s=3600)
    assert await status(tenants, key["key"]) == 200
    with resources.database.transaction() as tx:
        tx.execute(tables.keys.update().values(expires_at=1.0))
    later(resources)

    assert await status(tenants, key["key"]) == 401


async def test_rotated_key_holds_through_its_grace(
    tenants: Tenants, admin: httpx.AsyncClient, resources: Resources
) -> None:
    old = await made(admin, name="ci", scopes=["read"])

    answer = await admin.post(f"/v1/keys/{old['id']}/rotate", json={"grace_s": 3600})

    new = answer.json()
    assert answer.status_code == 201
    assert (new["name"], new["scopes"]) == ("ci", ["read"])
    assert new["id"] != old["id"]
    assert [await status(tenants, key["key"]) for key in (old, new)] == [200, 200]
    assert (await admin.get(f"/v1/keys/{old['id']}")).json()["expires_at"]
    at_once = await admin.post(f"/v1/keys/{new['id']}/rotate", json={"grace_s": 0})
    assert at_once.status_code == 201
    await asyncio.sleep(0.01)
    assert await status(tenants, new["key"]) == 401
    assert (await admin.post(f"/v1/keys/{new['id']}/rotate", json={})).status_code == 409


async def test_grace_lengthens_no_life(admin: httpx.AsyncClient) -> None:
    old = await made(admin, expires_in_s=60)

    await admin.post(f"/v1/keys/{old['id']}/rotate", json={"grace_s": 3600})

    assert (await admin.get(f"/v1/keys/{old['id']}")).json()["expires_at"] == old["expires_at"]


@pytest.mark.parametrize(
    ("scopes", "looks", "changes", "administers"),
    [
        (["read"], 200, 403, 403),
        (["write"], 403, 404, 403),
        (["admin"], 403, 403, 200),
        (["read", "write"], 200, 404, 403),
    ],
)
async def test_scope_opens_its_calls_alone(
    tenants: Tenants, admin: httpx.AsyncClient, scopes: list[str], looks: int, changes: int, administers: int
) -> None:
    key = (await made(admin, scopes=scopes))["key"]

    assert await status(tenants, key) == looks
    assert await status(tenants, key, "DELETE", f"/v1/models/mdl_{UNKNOWN}") == changes
    assert await status(tenants, key, "GET", "/v1/keys") == administers


async def test_missing_scope_is_a_problem_that_names_it(tenants: Tenants, admin: httpx.AsyncClient) -> None:
    key = (await made(admin, scopes=["read"]))["key"]

    async with tenants.client(key) as client:
        answer = await client.post("/v1/keys", json={"name": "more", "scopes": ["admin"]})

    assert (answer.status_code, answer.json()["type"].rsplit("/")[-1]) == (403, "scope-missing")
    assert "`admin`" in answer.json()["detail"]


async def test_key_manages_its_own_tenant_alone(tenants: Tenants, admin: httpx.AsyncClient) -> None:
    ours = await made(admin)
    async with tenants.client(THEIRS) as theirs:
        assert (await theirs.get("/v1/keys")).json()["items"] == []
        for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/rotate")):
            answer = await theirs.request(method, f"/v1/keys/{ours['id']}{path}", json={} if path else None)
            assert answer.status_code == 404

    assert await status(tenants, ours["key"]) == 200


@pytest.mark.parametrize(
    "given",
    ["mp_", f"mp_{'a' * 43}", f"mp_{'a' * 42}é", f"mp_{'a' * 5000}", "mp_\x00", f"MP_{'a' * 43}"],
)
async def test_key_that_nobody_made_is_401(tenants: Tenants, given: str) -> None:
    async with tenants.client() as client:
        headers = {"Authorization": f"Bearer {given}".encode("latin-1")}
        assert (await client.get("/v1/models", headers=headers)).status_code == 401


async def test_use_is_noted(tenants: Tenants, admin: httpx.AsyncClient) -> None:
    key = await made(admin)
    assert key["last_used_at"] is None

    await status(tenants, key["key"])

    assert (await admin.get(f"/v1/keys/{key['id']}")).json()["last_used_at"]


@pytest.mark.parametrize(
    "fields", [{"scopes": []}, {"scopes": ["root"]}, {"expires_in_s": 0}, {"name": ""}, {"tenant": "other"}]
)
async def test_impossible_key_is_422(admin: httpx.AsyncClient, fields: dict[str, Any]) -> None:
    assert (await admin.post("/v1/keys", json={"name": "x", **fields})).status_code == 422


async def test_operator_makes_the_first_key_of_a_tenant(
    tenants: Tenants,
    resources: Resources,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("MODELPRESS_DATA_DIR", str(resources.settings.data_dir))

    command.main(["newcomer", "--scope", "read", "--scope", "admin"])

    key = capsys.readouterr().out.strip()
    assert resources.keys.get(keys._digest(key)) is None
    assert await status(tenants, key) == 200
    assert resources.keys.get(keys._digest(key)) == Known(
        id=resources.keys.get(keys._digest(key)).id,  # type: ignore[union-attr]
        tenant="newcomer",
        scopes=frozenset({"read", "admin"}),
    )


def test_cache_holds_for_its_time_and_no_longer() -> None:
    clock = [0.0]
    cache = KeyCache(lambda: clock[0])
    cache.put("a", Known("key_1", "t", frozenset()))

    clock[0] = HOLDS_S - 0.01
    assert cache.get("a") is not None
    clock[0] = HOLDS_S
    assert cache.get("a") is None
    assert cache.get("b") is None
