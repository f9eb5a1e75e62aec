"""The client: every call of the REST API as a typed method. Runs anywhere; opens no model and no data set itself."""

import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, Self, TypeVar, Unpack, get_args, overload

from pydantic import BaseModel, ValidationError

from app.contracts.artifact import Artifact, VariantName
from app.contracts.base import Page
from app.contracts.benchmark import Benchmark, BenchmarkCreate
from app.contracts.dataset import Dataset, DatasetCreate, DatasetFormat
from app.contracts.goal import Goal
from app.contracts.job import Event, Job, JobCreate
from app.contracts.key import Key, KeyCreate, KeyRotate
from app.contracts.model import CheckState, Model, ModelCreate, ModelFormat
from app.contracts.recipe import Recipe
from app.contracts.report import Report
from app.contracts.technique import TechniqueInfo
from app.contracts.trigger import Trigger, TriggerCreate
from app.contracts.upload import Upload
from modelpress.downloads import download_artifact
from modelpress.errors import InvalidInput, problem_error
from modelpress.folders import holds_onnx, zip_folder
from modelpress.following import follow
from modelpress.options import BenchmarkOptions, DatasetOptions, JobOptions
from modelpress.places import SourceLike, name_of, source_of
from modelpress.steps import StepLike, goal_of, recipe_of
from modelpress.transport import Call, Retry, Transport
from modelpress.uploads import Progress, upload_file

DEFAULT_URL = "http://127.0.0.1:8000"
_CHECK_WAIT_S = 30
_POLL_S = 0.5
_REPORT_TYPES = {"json": "application/json", "markdown": "text/markdown", "html": "text/html"}

Body = TypeVar("Body", bound=BaseModel)
Checked = TypeVar("Checked", Model, Dataset)


class Client:
    """Talks to one modelpress server.

    >>> with Client() as client:
    ...     model = client.upload_model("model.onnx")
    ...     job = client.wait(client.submit(model, ["prune_layers:keep=2", "distill"], client.upload_dataset("d.npz")))
    ...     client.download(job.artifact, "small.onnx")

    Every method raises ProblemError when the server refuses and ServerUnreachable when it does not answer.
    """

    def __init__(self, base_url: str = DEFAULT_URL, api_key: str | None = None, *, retry: Retry | None = None) -> None:
        """Open no connection yet."""
        self._transport = Transport(base_url, api_key, retry or Retry())

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Close the connections."""
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    # Uploads, models, data sets

    def upload(self, path: str | Path, progress: Progress | None = None) -> Upload:
        """Send a file in parts of 32 MiB, each with its digest; goes on after a broken connection."""
        return upload_file(self._transport, Path(path), progress)

    def upload_model(
        self,
        path: str | Path,
        format: ModelFormat | None = None,  # noqa: A002  # the API's word
        name: str | None = None,
        *,
        wait: bool = True,
        progress: Progress | None = None,
    ) -> Model:
        """Upload an ONNX file, it and its data files as zip, or a Hugging Face folder or its zip; wait for its check.

        Raises ProblemError with the reason when the model is rejected.
        """
        source = Path(path)
        chosen = format or _model_format(source)
        if source.is_dir():
            with tempfile.TemporaryDirectory() as scratch:
                upload = self.upload(zip_folder(source, Path(scratch) / "model.zip"), progress)
        else:
            upload = self.upload(source, progress)
        create = ModelCreate(upload=upload.id, format=chosen, name=name or source.name)
        return self._create_checked("/v1/models", create, Model, wait=wait)

    def upload_dataset(
        self,
        path: str | Path,
        format: DatasetFormat | None = None,  # noqa: A002  # the API's word
        *,
        wait: bool = True,
        progress: Progress | None = None,
        **options: Unpack[DatasetOptions],
    ) -> Dataset:
        """Upload an npz, csv, jsonl or parquet file; by default wait until it is checked."""
        source = Path(path)
        chosen = format or _dataset_format(source)
        upload = self.upload(source, progress)
        fields = {"name": source.name, **options, "upload": upload.id, "format": chosen}
        return self._create_checked("/v1/datasets", _valid(DatasetCreate, fields), Dataset, wait=wait)

    def pull_model(
        self,
        place: SourceLike,
        format: ModelFormat | None = None,  # noqa: A002  # the API's word
        name: str | None = None,
        *,
        sha256: str | None = None,
        wait: bool = True,
    ) -> Model:
        """Let the server pull a model from `https://…`, `s3://store/key` or `mlflow:name@alias`; wait for its check.

        Raises ProblemError with the reason when it cannot be had or is rejected.
        """
        source = source_of(place)
        called = name_of(source)
        chosen = format or ("huggingface" if called.endswith(".zip") else "onnx")
        fields = {"source": _with_digest(source, sha256), "format": chosen, "name": name or called or None}
        return self._create_checked("/v1/models", _valid(ModelCreate, fields), Model, wait=wait)

    def pull_dataset(
        self,
        place: SourceLike,
        format: DatasetFormat | None = None,  # noqa: A002  # the API's word
        *,
        sha256: str | None = None,
        wait: bool = True,
        **options: Unpack[DatasetOptions],
    ) -> Dataset:
        """Let the server pull a data set; as `pull_model`."""
        source = source_of(place)
        chosen = format or _dataset_format(Path(name_of(source)))
        fields = {**options, "source": _with_digest(source, sha256), "format": chosen}
        fields["name"] = options.get("name") or name_of(source)
        return self._create_checked("/v1/datasets", _valid(DatasetCreate, fields), Dataset, wait=wait)

    def model(self, model_id: str) -> Model:
        """Return one model."""
        return self._get(f"/v1/models/{model_id}", Model)

    def dataset(self, dataset_id: str) -> Dataset:
        """Return one data set."""
        return self._get(f"/v1/datasets/{dataset_id}", Dataset)

    def models(self) -> Iterator[Model]:
        """Iterate over all models, newest first."""
        return self._list("/v1/models", Model)

    def datasets(self) -> Iterator[Dataset]:
        """Iterate over all data sets, newest first."""
        return self._list("/v1/datasets", Dataset)

    # Techniques and jobs

    def techniques(self) -> list[TechniqueInfo]:
        """Return every technique with the JSON Schema of its options."""
        return list(self._list("/v1/techniques", TechniqueInfo))

    def submit(
        self,
        model: Model | str,
        recipe: Recipe | Mapping[str, object] | Sequence[StepLike],
        dataset: Dataset | str | None = None,
        *,
        idempotency_key: str | None = None,
        **options: Unpack[JobOptions],
    ) -> Job:
        """Start a job. A step is `"prune_layers:keep=2"`, a dict, or a spec of `app.contracts.steps`.

        Sending it twice starts one job: an Idempotency-Key is made up when none is given.
        """
        return self._submit(model, dataset, {**options, "recipe": recipe_of(recipe)}, idempotency_key)

    def optimize(
        self,
        model: Model | str,
        goal: Goal | Mapping[str, object],
        dataset: Dataset | str | None = None,
        *,
        idempotency_key: str | None = None,
        **options: Unpack[JobOptions],
    ) -> Job:
        """Start a job that looks for a recipe: a goal is `Goal(minimize="latency", max_drop=0.01)` or such a dict.

        Its candidates are jobs of their own, `jobs(parent=job)`; `report(job).search` tells what was found.
        """
        return self._submit(model, dataset, {**options, "goal": goal_of(goal)}, idempotency_key)

    def _submit(
        self, model: Model | str, dataset: Dataset | str | None, fields: Mapping[str, object], given_key: str | None
    ) -> Job:
        inputs = {"model": _id(model), "dataset": dataset and _id(dataset)}
        body = _valid(JobCreate, {**fields, **inputs}).model_dump(mode="json")
        key = {"Idempotency-Key": given_key or uuid.uuid4().hex}
        call = Call("POST", "/v1/jobs", headers=key, body=body, repeatable=True)
        return Job.model_validate_json(self._transport.send(call).content)

    def job(self, job_id: str) -> Job:
        """Return the present state of a job."""
        return self._get(f"/v1/jobs/{job_id}", Job)

    def jobs(self, *, parent: Job | str | None = None) -> Iterator[Job]:
        """Iterate over all jobs, newest first; or over the candidates of one with a goal."""
        return self._list("/v1/jobs", Job, {"parent": _id(parent)} if parent else None)

    def events(self, job_id: str, after: int = 0) -> Iterator[Event]:
        """Follow a job until it ends, each event once, through broken connections."""
        return follow(self._transport, job_id, after)

    def wait(self, job: Job | str, on_event: Callable[[Event], None] | None = None) -> Job:
        """Return the job when it has ended, whatever its end; `on_event` sees each event once."""
        for event in self.events(_id(job)):
            if on_event:
                on_event(event)
        return self.job(_id(job))

    def cancel(self, job: Job | str) -> Job:
        """Ask the server to stop a job. Raises Conflict when it has already ended."""
        answer = self._transport.send(Call("POST", f"/v1/jobs/{_id(job)}/cancel", repeatable=True))
        return Job.model_validate_json(answer.content)

    def resume(self, job: Job | str) -> Job:
        """Let a failed or cancelled job go on from its checkpoint. Raises Conflict when it cannot, and says why."""
        answer = self._transport.send(Call("POST", f"/v1/jobs/{_id(job)}/resume"))
        return Job.model_validate_json(answer.content)

    @overload
    def report(self, job: Job | str, format: Literal["json"] = "json") -> Report: ...  # the API's word
    @overload
    def report(self, job: Job | str, format: Literal["markdown", "html"]) -> str: ...  # as above
    def report(self, job: Job | str, format: str = "json") -> Report | str:  # noqa: A002  # as above
        """Return the report of an ended job: typed, or as text for people."""
        call = Call("GET", f"/v1/jobs/{_id(job)}/report", headers={"Accept": _REPORT_TYPES[format]})
        answer = self._transport.send(call)
        return Report.model_validate_json(answer.content) if format == "json" else answer.text

    # Artifacts, benchmarks, triggers

    def artifact(self, artifact_id: str) -> Artifact:
        """Return one artifact."""
        return self._get(f"/v1/artifacts/{artifact_id}", Artifact)

    def artifacts(self) -> Iterator[Artifact]:
        """Iterate over all artifacts, newest first."""
        return self._list("/v1/artifacts", Artifact)

    def download(
        self,
        artifact: Artifact | str,
        path: str | Path,
        variant: VariantName = "packed",
        progress: Progress | None = None,
    ) -> Path:
        """Write the file, verified and whole, and return its path; a broken download is continued.

        From 2 GiB on the file is a zip of model.onnx and its weights, and its path ends in .zip.
        """
        record = self.artifact(artifact) if isinstance(artifact, str) else artifact
        return download_artifact(self._transport, record, Path(path), variant, progress)

    def benchmark(
        self, artifact: Artifact | str, *, wait: bool = True, **options: Unpack[BenchmarkOptions]
    ) -> Benchmark:
        """Time the artifact against its original; by default wait for the result.

        Raises ProblemError with the reason when the benchmark fails.
        """
        body = _valid(BenchmarkCreate, dict(options)).model_dump(mode="json", exclude_unset=True)
        answer = self._transport.send(Call("POST", f"/v1/artifacts/{_id(artifact)}/benchmarks", body=body))
        benchmark = Benchmark.model_validate_json(answer.content)
        while wait and not benchmark.state.final:
            time.sleep(_POLL_S)
            benchmark = self._get(f"/v1/benchmarks/{benchmark.id}", Benchmark)
        if benchmark.error:
            raise problem_error(benchmark.error)
        return benchmark

    def create_trigger(self, trigger: TriggerCreate) -> Trigger:
        """Store a recipe or goal behind a signed hook or a schedule; the answer shows the secret this once."""
        body = trigger.model_dump(mode="json")
        if trigger.secret:
            body["secret"] = trigger.secret.get_secret_value()
        answer = self._transport.send(Call("POST", "/v1/triggers", body=body))
        return Trigger.model_validate_json(answer.content)

    def triggers(self) -> Iterator[Trigger]:
        """Iterate over all triggers, without their secrets."""
        return self._list("/v1/triggers", Trigger)

    def trigger(self, trigger_id: str) -> Trigger:
        """Return one trigger: of a schedule also when it is due, and what the latest due time led to."""
        return self._get(f"/v1/triggers/{trigger_id}", Trigger)

    def delete_trigger(self, trigger_id: str) -> None:
        """Delete a trigger; its jobs go on."""
        self._transport.send(Call("DELETE", f"/v1/triggers/{trigger_id}"))

    # Keys, for a key with the scope `admin`

    def create_key(self, name: str, scopes: Sequence[str] = ("read", "write"), expires_in_s: int | None = None) -> Key:
        """Make a key of one's own tenant; the answer shows it this once."""
        create = _valid(KeyCreate, {"name": name, "scopes": list(scopes), "expires_in_s": expires_in_s})
        answer = self._transport.send(Call("POST", "/v1/keys", body=create.model_dump(mode="json")))
        return Key.model_validate_json(answer.content)

    def keys(self) -> Iterator[Key]:
        """Iterate over the tenant's keys, newest first, without themselves."""
        return self._list("/v1/keys", Key)

    def rotate_key(self, key_id: str, grace_s: int = 86_400) -> Key:
        """Make the successor of a key, which ends after the grace; the answer shows the new one this once."""
        body = _valid(KeyRotate, {"grace_s": grace_s}).model_dump(mode="json")
        return Key.model_validate_json(
            self._transport.send(Call("POST", f"/v1/keys/{key_id}/rotate", body=body)).content
        )

    def revoke_key(self, key_id: str) -> None:
        """End a key; it opens nothing after a few seconds."""
        self._transport.send(Call("DELETE", f"/v1/keys/{key_id}"))

    def _get(self, path: str, kind: type[Body]) -> Body:
        return kind.model_validate_json(self._transport.send(Call("GET", path)).content)

    def _list(self, path: str, kind: type[Body], chosen: Mapping[str, str] | None = None) -> Iterator[Body]:
        """Walk all pages of what was chosen."""
        after: str | None = ""
        while after is not None:
            answer = self._transport.send(
                Call("GET", path, params={**(chosen or {}), **({"after": after} if after else {})})
            )
            page = Page[kind].model_validate_json(answer.content)  # type: ignore[valid-type]  # built at run time
            yield from page.items
            after = page.next

    def _create_checked(self, path: str, create: BaseModel, kind: type[Checked], *, wait: bool) -> Checked:
        body = create.model_dump(mode="json", exclude_unset=True)
        headers = {"Prefer": f"wait={_CHECK_WAIT_S}"} if wait else {}
        found = kind.model_validate_json(self._transport.send(Call("POST", path, headers=headers, body=body)).content)
        while wait and found.state is CheckState.CHECKING:
            time.sleep(_POLL_S)
            found = self._get(f"{path}/{found.id}", kind)
        if found.error:
            raise problem_error(found.error)
        return found


def _with_digest(source: BaseModel, sha256: str | None) -> dict[str, object]:
    return source.model_dump(mode="json", exclude_none=True) | ({"sha256": sha256} if sha256 else {})


def _id(resource: Model | Dataset | Job | Artifact | str) -> str:
    return resource if isinstance(resource, str) else resource.id


def _valid(kind: type[Body], fields: object) -> Body:
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise InvalidInput(faults) from error


def _model_format(path: Path) -> ModelFormat:
    if path.suffix == ".zip" and holds_onnx(path):
        return "onnx"
    if path.is_dir() or path.suffix == ".zip":
        return "huggingface"
    if path.suffix == ".onnx" or not path.exists():
        return "onnx"
    msg = f"cannot tell the format of {path.name}; give an .onnx file, a Hugging Face folder, or a .zip of either"
    raise InvalidInput(msg)


def _dataset_format(path: Path) -> DatasetFormat:
    found = path.suffix.removeprefix(".")
    for known in get_args(DatasetFormat):
        if found == known:
            return known  # type: ignore[no-any-return]  # get_args returns the literals
    msg = f"cannot tell the format of {path.name}; end its name in .npz, .csv, .jsonl or .parquet, or pass format="
    raise InvalidInput(msg)
