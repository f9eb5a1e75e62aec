"""Where a model or a data set is pulled from, in place of an upload; and what is kept of that afterwards."""

from typing import Annotated, Literal

from pydantic import Field, HttpUrl, StringConstraints, field_validator, model_validator

from app.contracts.base import Contract, Sha256

SourceName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]

RegisteredName = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=r"^[^/:\x00-\x1f]+$")]
RegisteredVersion = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,8}$")]
RegisteredAlias = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,255}$")]


class HttpsSource(Contract):
    """A public address. It is asked without credentials, over at most 5 redirects."""

    type: Literal["https"]
    url: HttpUrl = Field(
        description="https, without credentials; its query, which may be a signature, is not shown again"
    )
    sha256: Sha256 | None = Field(None, description="what the bytes must have")


class S3Source(Contract):
    """An object in a store that the operator named (MODELPRESS_SOURCE_STORES)."""

    type: Literal["s3"]
    store: SourceName
    key: Annotated[str, StringConstraints(min_length=1, max_length=1_024)] = Field(
        description="below the store's own prefix", examples=["path/model.onnx"]
    )
    sha256: Sha256 | None = Field(None, description="what the bytes must have")

    @field_validator("key")
    @classmethod
    def _normalized(cls, key: str) -> str:
        parts = [part for part in key.split("/") if part not in {"", "."}]
        if not parts or ".." in parts or "\\" in key or not key.isprintable():
            msg = "a key is names with / between them, and none of them is .."
            raise ValueError(msg)
        return "/".join(parts)


class MlflowSource(Contract):
    """A version of a registered model, in a server that the operator named (MODELPRESS_MLFLOW_SERVERS)."""

    type: Literal["mlflow"]
    server: SourceName = "default"
    name: RegisteredName
    version: RegisteredVersion | None = None
    alias: RegisteredAlias | None = Field(None, description="in place of a version: the one that it stands for now")

    @model_validator(mode="after")
    def _one_of_two(self) -> "MlflowSource":
        if (self.version is None) == (self.alias is None):
            msg = "say which version with `version` or with `alias`: one of the two"
            raise ValueError(msg)
        return self


Source = HttpsSource | S3Source | MlflowSource
DatasetSource = Annotated[HttpsSource | S3Source, Field(discriminator="type")]
ModelSource = Annotated[Source, Field(discriminator="type")]


class Origin(Contract):
    """Where bytes came from, without anything secret."""

    type: Literal["upload", "https", "s3", "mlflow"] = "upload"
    url: str | None = Field(None, description="without query and fragment")
    store: str | None = None
    key: str | None = None
    server: str | None = None
    name: str | None = Field(None, description="of the registered model")
    version: str | None = Field(None, description="of the registered model; of an alias once it was asked for")
    alias: str | None = None


def origin_of(source: Source) -> Origin:
    """Return what may be shown of a source."""
    if isinstance(source, MlflowSource):
        return Origin.model_validate(source.model_dump())
    if isinstance(source, S3Source):
        return Origin(type="s3", store=source.store, key=source.key)
    url = source.url
    port = f":{url.port}" if url.port and url.port != {"https": 443, "http": 80}.get(url.scheme) else ""
    return Origin(type="https", url=f"{url.scheme}://{url.host}{port}{url.path or '/'}")


def refuse_unclear(upload: str | None, source: object | None) -> None:
    """Raise ValueError unless there is either an upload or a source."""
    if (upload is None) == (source is None):
        msg = "say where the bytes are with `upload`, or where to pull them from with `source`: one of the two"
        raise ValueError(msg)
