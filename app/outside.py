"""Stores and servers outside that the operator names, so that a tenant says a name and never an address of them.

Part of the settings; opens nothing.
"""

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
