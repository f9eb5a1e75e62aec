"""A model registry of MLflow over its REST API: versions, their files, and versions of ours. Knows no work.

Servers are named by the operator, so their addresses are not examined, and they are asked with the operator's token.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, urlsplit

import httpx

from app.errors import SourceRefused
from app.outside import MlflowServer
from workers.fetching.download import Broken
from workers.fetching.https import Address, refuse_failed, tls

_API = "/api/2.0/mlflow"
_FILES = "/api/2.0/mlflow-artifacts/artifacts"
_CONNECT_S = 10.0
_MISSING = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}  # the second for an alias
_EXISTS = "RESOURCE_ALREADY_EXISTS"
_PUT_BYTES = 1 << 20
_MAX_HOPS = 4  # from a version to the files that it stands for


@dataclass(frozen=True)
class Version:
    """One version of a registered model."""

    name: str
    version: str
    source: str
    run_id: str
    tags: dict[str, str]


@dataclass(frozen=True)
class Listed:
    """A file of a version, by its path below the version's root."""

    path: str
    size_bytes: int


class Registry:
    """Talks to one server, from `open` on.

    Every method raises SourceRefused for what the server does not give, and Broken for what another try may cure.
    """

    def __init__(self, client: httpx.AsyncClient, address: Address) -> None:
        """Take a client of the server, and what its files are asked with."""
        self._client, self._address = client, address

    @classmethod
    @asynccontextmanager
    async def open(cls, server: MlflowServer, idle_s: float) -> AsyncIterator[Self]:
        """Yield a registry; nothing is asked yet."""
        base, headers = server.url.rstrip("/"), server.headers()
        timeout = httpx.Timeout(idle_s, connect=min(_CONNECT_S, idle_s))
        async with httpx.AsyncClient(
            base_url=base, headers=headers, timeout=timeout, trust_env=False, verify=tls()
        ) as client:
            yield cls(client, Address(base, idle_s, named=True, headers=headers))

    async def version(self, name: str, version: str) -> Version:
        """Return a version by its number."""
        found = await self.call("GET", f"{_API}/model-versions/get", params={"name": name, "version": version})
        return _version(found)

    async def version_of_alias(self, name: str, alias: str) -> Version:
        """Return the version that an alias stands for now."""
        found = await self.call("GET", f"{_API}/registered-models/alias", params={"name": name, "alias": alias})
        return _version(found)

    async def root(self, version: Version) -> str:
        """Return where the version's files lie, as a path below the server's artifacts."""
        found = await self.call(
            "GET", f"{_API}/model-versions/get-download-uri", params={"name": version.name, "version": version.version}
        )
        uri = str(found.get("artifact_uri", "")) or version.source
        for _hop in range(_MAX_HOPS):
            parts = urlsplit(uri)
            if parts.scheme == "mlflow-artifacts":
                return parts.path.strip("/")
            uri = await self._behind(uri, parts.scheme)
        raise SourceRefused("The registry names no place of the version's files.")

    async def _behind(self, uri: str, scheme: str) -> str:
        name, _, rest = uri.partition(":")[2].lstrip("/").partition("/")
        if scheme == "models" and name.startswith("m-"):
            found = await self.call("GET", f"{_API}/logged-models/{quote(name)}")
            return f"{found['model']['info']['artifact_uri']}/{rest}".rstrip("/")
        if scheme == "runs":
            found = await self.call("GET", f"{_API}/runs/get", params={"run_id": name})
            return f"{found['run']['info']['artifact_uri']}/{rest}".rstrip("/")
        raise SourceRefused("The registry does not serve its files itself: start it with --serve-artifacts.")

    async def files(self, root: str) -> list[Listed]:
        """Return the files directly below `root`."""
        found = await self.call("GET", _FILES, params={"path": root})
        plain = [one for one in found.get("files", []) if not one.get("is_dir")]
        return [Listed(str(one["path"]), int(one.get("file_size") or 0)) for one in plain]

    def file(self, root: str, path: str) -> Address:
        """Return where one file is downloaded from."""
        return replace(self._address, url=f"{self._address.url}{_FILES}/{quote(f'{root}/{path}')}")

    async def version_with_tag(self, name: str, key: str, value: str) -> str | None:
        """Return the number of the model's version with this tag, or None."""
        asked = {"filter": f"tags.`{key}` = '{value}'", "max_results": "100"}
        found = await self.call("GET", f"{_API}/model-versions/search", params=asked)
        numbers = [str(one["version"]) for one in found.get("model_versions", []) if one.get("name") == name]
        return numbers[0] if numbers else None

    async def ensure_model(self, name: str) -> None:
        """Make the registered model unless it is there."""
        await self.call("POST", f"{_API}/registered-models/create", json={"name": name}, allowed=_EXISTS)

    async def run_with_tag(self, experiment: str, name: str, tag: tuple[str, str]) -> tuple[str, str]:
        """Return id and place of files of the run with this tag, made now if there is none."""
        experiment_id = await self._experiment(experiment)
        wanted = {"experiment_ids": [experiment_id], "filter": f"tags.`{tag[0]}` = '{tag[1]}'", "max_results": 1}
        found = (await self.call("POST", f"{_API}/runs/search", json=wanted)).get("runs", [])
        if not found:
            tags = [{"key": tag[0], "value": tag[1]}, {"key": "mlflow.runName", "value": name}]
            made = {"experiment_id": experiment_id, "run_name": name, "start_time": _now_ms(), "tags": tags}
            found = [(await self.call("POST", f"{_API}/runs/create", json=made))["run"]]
        return str(found[0]["info"]["run_id"]), str(found[0]["info"]["artifact_uri"])

    async def _experiment(self, name: str) -> str:
        await self.call("POST", f"{_API}/experiments/create", json={"name": name}, allowed=_EXISTS)
        found = await self.call("GET", f"{_API}/experiments/get-by-name", params={"experiment_name": name})
        return str(found["experiment"]["experiment_id"])

    async def put(self, uri: str, file: bytes | Path) -> None:
        """Store a file of ours, or bytes, at an `mlflow-artifacts:` address."""
        parts = urlsplit(uri)
        if parts.scheme != "mlflow-artifacts":
            raise SourceRefused("The registry takes no files itself: start it with --serve-artifacts.")
        headers, body = {"content-type": "application/octet-stream"}, file if isinstance(file, bytes) else _chunks(file)
        if isinstance(file, Path):
            headers["content-length"] = str((await asyncio.to_thread(file.stat)).st_size)
        await self._send("PUT", f"{_FILES}/{quote(parts.path.strip('/'))}", content=body, headers=headers)

    async def create_version(self, name: str, source: str, run_id: str, tags: dict[str, str], said: str) -> str:
        """Make a version of a registered model with its tags; return its number."""
        given = [{"key": key, "value": value} for key, value in tags.items()]
        body = {"name": name, "source": source, "run_id": run_id, "tags": given, "description": said}
        return _version(await self.call("POST", f"{_API}/model-versions/create", json=body)).version

    async def end_run(self, run_id: str) -> None:
        """Say that a run is over."""
        body = {"run_id": run_id, "status": "FINISHED", "end_time": _now_ms()}
        await self.call("POST", f"{_API}/runs/update", json=body)

    async def set_alias(self, name: str, alias: str, version: str) -> None:
        """Let an alias stand for this version."""
        body = {"name": name, "alias": alias, "version": version}
        await self.call("POST", f"{_API}/registered-models/alias", json=body)

    async def call(self, method: str, path: str, allowed: str = "", **given: Any) -> dict[str, Any]:  # noqa: ANN401 - httpx's own
        """Return what the server answers as JSON, nothing when it is the error `allowed`."""
        answer = await self._send(method, path, allowed, **given)
        try:
            found = answer.json() if answer.is_success else {}
        except ValueError as error:
            raise SourceRefused("The server's answer is not a registry's.") from error
        return found if isinstance(found, dict) else {}

    async def _send(self, method: str, path: str, allowed: str = "", **given: Any) -> httpx.Response:  # noqa: ANN401 - httpx's own
        try:
            answer = await self._client.request(method, path, **given)
        except httpx.TransportError as error:
            raise Broken(f"The registry does not answer ({type(error).__name__}).") from error
        code = _code(answer)
        if code and code == allowed:
            return answer
        if code in _MISSING:
            raise SourceRefused("The registry does not have, or does not take, this name, version or alias.")
        refuse_failed(answer)
        return answer


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_PUT_BYTES):
            yield chunk


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _code(answer: httpx.Response) -> str:
    if answer.is_success:
        return ""
    try:
        return str(answer.json()["error_code"])
    except (ValueError, KeyError, TypeError):
        return ""


def _version(found: dict[str, Any]) -> Version:
    try:
        said = found["model_version"]
        tags = {str(tag["key"]): str(tag.get("value", "")) for tag in said.get("tags", [])}
        return Version(said["name"], str(said["version"]), said.get("source", ""), said.get("run_id", ""), tags)
    except (KeyError, TypeError) as error:
        raise SourceRefused("The server's answer is not a registry's.") from error
