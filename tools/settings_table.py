"""Write the table of settings into a page, between its two markers: `python tools/settings_table.py <page>`.

The names and defaults come from `app.settings`; what a setting is for stands here, and a missing one is an error.
"""

import json
import sys
from pathlib import Path

from pydantic import AliasChoices, SecretStr
from pydantic.fields import FieldInfo

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from app.settings import Settings  # found from anywhere by the line above

BEGIN, END = "<!-- settings:begin -->", "<!-- settings:end -->"

MEANINGS = {
    "profile": "`embedded` runs on one machine without set-up; `production` refuses to start without keys",
    "data_dir": "folder of the embedded database, broker and blobs",
    "database_url": "SQLAlchemy address; empty: SQLite in the data folder",
    "broker_url": "Redis or Valkey address; empty: the bundled Valkey",
    "blob_url": "`s3://`, `gs://`, `az://` or `file://` address; empty: a folder in the data folder",
    "host": "address that the gateway binds; anything but loopback needs keys",
    "port": "port of the gateway",
    "api_keys": "tenant names by API key, a JSON object",
    "allow_private_urls": "let webhooks and sources reach loopback and private addresses (tests and closed networks)",
    "webhook_secret": "signs the webhooks of jobs that no trigger started; empty: unsigned",
    "source_stores": "stores that models may be pulled from, a JSON object by name: "
    '`{"NAME": {"url": "s3://bucket/prefix", "tenants": ["a"], "options": {…}}}`; without `tenants` for all',
    "mlflow_servers": "MLflow servers that models may be pulled from and registered in, a JSON object by name: "
    '`{"default": {"url": "https://…", "token": "…", "username": "…", "tenants": ["a"]}}`',
    "fetch_seconds": "pulling a model or a data set may take this long, retries included, seconds",
    "fetch_idle_s": "a source that is silent for longer is asked again, seconds",
    "log_level": "lowest level that is logged",
    "metrics_port": "port at which a worker answers Prometheus; 0: none. The gateway answers at its own port",
    "metrics_host": "address that this port is bound to; `0.0.0.0` lets other machines fetch the figures",
    "traces_url": "where traces go by OTLP over HTTP, as `http://collector:4318`; empty: nowhere",
    "traces_headers": "headers for that address, `name=value,name=value` with percent-encoded values; a secret",
    "traces_share": "share of the traces that are recorded, 0 to 1; where a client sends `traceparent`, it has decided",
    "max_upload_bytes": "largest upload, bytes",
    "max_model_bytes": "largest model that is opened, bytes",
    "max_unpacked_model_bytes": "what the zip of an ONNX model may unpack to, bytes",
    "upload_ttl_s": "an unfinished upload is removed after this, seconds",
    "signed_downloads_s": "downloads are sent to an address of the blob store that is good for so long, seconds; 0: "
    "the gateway sends the bytes",
    "max_queued_per_tenant": "jobs that one tenant may have waiting",
    "max_queued": "checks, jobs and benchmarks that all tenants together may have waiting",
    "max_open_uploads_per_tenant": "unfinished uploads that one tenant may have",
    "max_stored_bytes_per_tenant": "bytes of uploads, models and data sets that one tenant may keep, each content once",
    "requests_per_s": "calls per second of one tenant at one gateway process; 0: not limited",
    "request_burst": "calls that a tenant may make at once after a pause",
    "lease_s": "a worker that is silent this long has lost its job, seconds",
    "max_losses": "lost workers before a job is quarantined",
    "sweep_every_s": "pause between two rounds of the sweeper, seconds",
    "collect_every_s": "pause between two looks for blobs that no record names, seconds: those older than a day go to "
    "`trash/`, and a day later for good",
    "collect_dry_run": "only log how many blobs would be collected",
    "retention": "for how many days records are kept, a JSON object by tenant, see [Retention](#retention)",
    "ring_again_s": "a queued job is announced again after this, seconds",
    "kill_grace_s": "from asking the compute child to stop to killing it, seconds",
    "drain_s": "a worker told to stop lets its job run on this long before it hands it back, seconds",
    "outage_s": "a worker keeps its result this long while database or blob store are away, seconds",
    "checkpoint_every_s": "a job leaves a checkpoint after so much training, seconds; 0: none",
    "checkpoint_keep_s": "a failed or cancelled job can be resumed for this long, seconds",
    "child_file_bytes": "largest file that a compute child may write, bytes",
    "child_memory_bytes": "address space of the compute child, bytes",
    "check_seconds": "longest examination of an upload, seconds",
    "threads": "threads of one compute child",
    "device": "where training runs; `auto` takes CUDA when it is there",
    "require_sandbox": "least isolation a worker starts with: `full`, `partial`, `none`; `auto`: `full` in production",
    "scratch_dir": "folder of the attempts' scratch folders; empty: `scratch` in the data folder",
    "fault_file": "for tests alone: a file that says where a process is to break; the production profile refuses it",
}


def variable(name: str, field: FieldInfo) -> str:
    """Return the environment variable that sets a field."""
    if isinstance(field.validation_alias, AliasChoices):
        return str(field.validation_alias.choices[-1])
    return f"{Settings.model_config['env_prefix']}{name}".upper()


def variables() -> dict[str, str]:
    """Return the field's name by environment variable."""
    return {variable(name, field): name for name, field in Settings.model_fields.items()}


def default(field: FieldInfo) -> str:
    """Return the default as one writes it in the environment."""
    value = field.default.get_secret_value() if isinstance(field.default, SecretStr) else field.default
    if value is None or value == "":
        return ""
    if isinstance(value, bool | dict):
        return f"`{json.dumps(value)}`"
    return f"`{value}`"


def table() -> str:
    """Return the table in Markdown, a row per setting, in the order of the class."""
    rows = [
        f"| `{variable(name, field)}` | {default(field)} | {MEANINGS[name]} |"
        for name, field in Settings.model_fields.items()
    ]
    return "\n".join(["| variable | default | meaning |", "| --- | --- | --- |", *rows])


def fill(page: str) -> str:
    """Return the page with the present table between the markers."""
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n{table()}\n{END}{tail}"


def main(path: Path) -> None:
    """Rewrite the page in place."""
    path.write_text(fill(path.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
