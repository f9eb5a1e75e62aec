"""Sends results back to the registry: the ONNX file as a version of its own, with tags and an alias. Starts no work.

A try that was cut off is made again: the run and the version of a job are looked for before they are made.
"""

import asyncio
from pathlib import Path

import structlog

from app.contracts.trigger import JOB_TAG
from app.errors import DependencyUnavailable, ModelpressError
from app.resources import Resources
from app.stores import inputs, registrations
from app.stores.inputs import Result
from app.stores.registrations import Registration
from workers.fetching.download import Broken
from workers.fetching.pull import named
from workers.registry import Registry
from workers.scratch import attempt_folder

LIMIT_S = 1_800.0  # per try in all
_LEASE_S = LIMIT_S + 60.0
_EXPERIMENT = "modelpress"  # of the runs that hold our files
_FILE, _ZIP = "model.onnx", "model.zip"

log = structlog.get_logger(__name__)


def register_due(resources: Resources) -> int:
    """Try every registration that is due once and record how it went; return how many were tried.

    Raises DependencyUnavailable when database or blob store do not answer.
    """
    tried = 0
    while True:
        with resources.database.transaction() as tx:
            due = registrations.take_due(tx, _LEASE_S, limit=1)
        if not due:
            return tried
        _try(resources, due[0])
        tried += 1


def _try(resources: Resources, wanted: Registration) -> None:
    version = None
    try:
        version = _register(resources, wanted)
    except DependencyUnavailable:
        raise  # not the registry's: the lease ends, and it is tried again
    except (Broken, TimeoutError, ModelpressError, OSError) as error:
        reason = getattr(error, "detail", "") or str(error) or type(error).__name__
        log.warning("registration failed", job=wanted.job_id, reason=reason, tries=wanted.tries + 1)
    with resources.database.transaction() as tx:
        registrations.record(tx, wanted, version)
    if version is not None:
        log.info("registered", job=wanted.job_id, name=wanted.result_name, version=version)


def _register(resources: Resources, wanted: Registration) -> str:
    settings = resources.settings
    server = named(settings.mlflow_servers, wanted.server, wanted.tenant)
    with resources.database.reading() as tx:
        result = inputs.result_of(tx, wanted.tenant, wanted.job_id)
    with attempt_folder(settings.scratch.resolve(), f"{wanted.job_id}-registration") as folder:
        path = folder / "in" / _FILE
        resources.blobs.fetch(result.sha256, path)

        async def register() -> str:
            async with asyncio.timeout(LIMIT_S), Registry.open(server, settings.fetch_idle_s) as registry:
                return await _versioned(resources, registry, wanted, result, path)

        return asyncio.run(register())


async def _versioned(resources: Resources, registry: Registry, wanted: Registration, result: Result, path: Path) -> str:
    name, job_id = wanted.result_name, wanted.job_id
    version = await registry.version_with_tag(name, JOB_TAG, job_id)
    if version is None:
        await registry.ensure_model(name)
        run_id, uri = await registry.run_with_tag(_EXPERIMENT, f"{name} {job_id}", (JOB_TAG, job_id))
        source = f"{uri}/model"
        if result.zipped:
            await registry.put(f"{source}/{_ZIP}", path)
        else:
            await registry.put(f"{source}/{_FILE}", path)
            await registry.put(f"{source}/MLmodel", _mlmodel(source, run_id))
        version = await registry.create_version(name, source, run_id, _tags(wanted, result), result.verdict)
        await registry.end_run(run_id)
    with resources.database.transaction() as tx:
        registrations.note_version(tx, job_id, version)
    if wanted.alias is not None:
        await registry.set_alias(name, wanted.alias, version)
    return version


def _tags(wanted: Registration, result: Result) -> dict[str, str]:
    """Return what the version says of itself; the trigger's own tags cannot take the place of ours."""
    ours = {
        JOB_TAG: wanted.job_id,
        "modelpress.source": f"{wanted.source_name}/{wanted.source_version}",
        "modelpress.artifact_sha256": result.sha256,
        "modelpress.size_ratio": f"{result.size_ratio:.4g}",
    }
    if result.metric is not None:
        ours |= {"modelpress.metric": result.metric}
        ours |= {"modelpress.metric_before": f"{result.before:.6g}", "modelpress.metric_after": f"{result.after:.6g}"}
    return {**wanted.tags, **ours}


def _mlmodel(source: str, run_id: str) -> bytes:
    """Return MLflow's description of the folder, so that its own loaders open the file."""
    return f"""\
artifact_path: {source}
flavors:
  onnx:
    code: null
    data: {_FILE}
    onnx_session_options: null
    providers:
    - CPUExecutionProvider
  python_function:
    data: {_FILE}
    loader_module: mlflow.onnx
run_id: {run_id}
""".encode()
