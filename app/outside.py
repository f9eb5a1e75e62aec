"""Stores and servers outside that the operator names, so that a tenant says a name and never an address of them.

Part of the settings; opens nothing.
"""

from base64 import b64encode
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, SecretStr, field_validator

_STORES = frozenset({"s3", "gs", "az"})


class Named(BaseModel):
    """What may be asked by name, by the tenants listed; without a list, by all."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tenants: list[str] | None = None

    def serves(self, tenant: str) -> bool:
        """Return whether this tenant may use it."""
        return self.tenants is None or tenant in self.tenants


class SourceStore(Named):
    """A bucket, or a folder of one, that models and data sets may be pulled from."""

    url: str
    options: dict[str, SecretStr] = {}  # of obstore: aws_access_key_id, aws_secret_access_key, aws_region, endpoint …

    @field_validator("url")
    @classmethod
    def _known(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in _STORES or not parts.netloc:
            msg = "a source store is s3://bucket/prefix, gs://… or az://…"
            raise ValueError(msg)
        return url


class MlflowServer(Named):
    """A server of MLflow; asked with a bearer token, or with a user's name and the token as password."""

    url: str
    token: SecretStr = SecretStr("")
    username: str = ""

    @field_validator("url")
    @classmethod
    def _known(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username is not None:
            msg = "a server is http://… or https://…, with its credentials in username and token"
            raise ValueError(msg)
        return url.rstrip("/")

    def headers(self) -> dict[str, str]:
        """Return what a request proves itself with."""
        token = self.token.get_secret_value()
        if not token:
            return {}
        if not self.username:
            return {"authorization": f"Bearer {token}"}
        return {"authorization": f"Basic {b64encode(f'{self.username}:{token}'.encode()).decode()}"}
