"""One gateway seen by several tenants, each with a key of the environment, and by whoever has another key."""

from dataclasses import dataclass

import httpx
from fastapi import FastAPI
from pydantic import SecretStr

OURS, THEIRS = "key of default", "key of other"


@dataclass(frozen=True)
class Tenants:
    gateway: FastAPI

    @classmethod
    def of(cls, gateway: FastAPI) -> "Tenants":
        keys = {SecretStr(OURS): "default", SecretStr(THEIRS): "other"}
        object.__setattr__(gateway.state.resources.settings, "api_keys", keys)
        return cls(gateway)

    def client(self, key: str | None = None) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        transport = httpx.ASGITransport(self.gateway, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers=headers)
