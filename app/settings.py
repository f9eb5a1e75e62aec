"""The only reader of the environment."""

from pathlib import Path
from typing import Literal, Self

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.networks import is_loopback
from app.outside import MlflowServer, SourceStore

_GIB = 1 << 30


class Retention(BaseModel):
    """For how many days a tenant's records are kept; unset: for ever."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    artifacts_days: float | None = Field(None, gt=0)  # since it was published
    jobs_days: float | None = Field(None, gt=0)  # since the job ended; its artifact goes with it
    unused_models_days: float | None = Field(None, gt=0)  # since the upload, where nothing that is kept names it
    unused_datasets_days: float | None = Field(None, gt=0)  # the same


class Settings(BaseSettings):
    """Every setting of gateway and workers, with defaults that run on one machine without any set-up.

    Empty addresses mean: SQLite, a local folder and the bundled Valkey under `data_dir`.
    """

    # What is refused may be a secret, and the refusal goes into a log.
    model_config = SettingsConfigDict(
        env_prefix="MODELPRESS_", extra="ignore", populate_by_name=True, hide_input_in_errors=True
    )

    profile: Literal["embedded", "production"] = "embedded"
    data_dir: Path = Path("var")
    database_url: str = Field("", validation_alias=AliasChoices("database_url", "DATABASE_URL"))
    broker_url: str = Field("", validation_alias=AliasChoices("broker_url", "BROKER_URL"))
    blob_url: str = Field("", validation_alias=AliasChoices("blob_url", "BLOB_URL"))
    host: str = "127.0.0.1"
    port: int = 8000
    # Tenant names by API key. Without keys only a loopback bind of the embedded profile starts.
    api_keys: dict[SecretStr, str] = {}
    allow_private_urls: bool = False  # webhooks, sources at private addresses: for tests and closed networks
    webhook_secret: SecretStr = SecretStr("")  # signs the webhooks of jobs that no trigger started; empty: unsigned
    source_stores: dict[str, SourceStore] = {}  # by the name that a tenant says in place of a bucket
    mlflow_servers: dict[str, MlflowServer] = {}  # by the name that a source or a trigger says
    fetch_seconds: int = 3_600  # pulling a model or a data set may take this long, retries included
    fetch_idle_s: float = 30.0  # a source that is silent for longer is asked again
    log_level: str = "INFO"
    metrics_port: int = Field(0, ge=0, le=65_535)  # where a worker tells its figures; 0: nowhere
    metrics_host: str = "127.0.0.1"
    traces_url: str = Field("", pattern=r"^(https?://[^/@\s]+(/[^\s]*)?)?$")  # OTLP over HTTP; empty: no traces
    traces_headers: SecretStr = SecretStr("")  # name=value,name=value
    traces_share: float = Field(1.0, ge=0, le=1)  # of the traces that begin here; those that clients began go by them

    max_upload_bytes: int = 4 * _GIB
    max_model_bytes: int = 4 * _GIB
    max_unpacked_model_bytes: int = 8 * _GIB  # a zip of an ONNX model and its data files
    upload_ttl_s: int = 86_400
    # How long an address of the blob store itself is good for, which downloads are sent to; 0: the gateway sends the
    # bytes. S3 signs for a week at most.
    signed_downloads_s: int = Field(0, ge=0, le=7 * 86_400)
    max_queued_per_tenant: int = 1_000
    max_queued: int = 50_000  # of all tenants together
    max_open_uploads_per_tenant: int = 1_000
    max_stored_bytes_per_tenant: int = 1_024 * _GIB  # uploads, models and data sets
    requests_per_s: float = 300.0  # of one tenant at one gateway process; 0: not limited
    request_burst: int = 600

    lease_s: float = 30.0
    max_losses: int = 3  # worker losses before a job is quarantined
    sweep_every_s: float = 5.0
    collect_every_s: float = 3_600.0  # how often the sweeper looks for blobs that no record names
    collect_dry_run: bool = False  # only log what would be collected
    retention: dict[str, Retention] = {}  # by tenant; `*` is for all that have none of their own
    ring_again_s: float = 30.0  # a queued row whose doorbell may be lost is rung again after this
    kill_grace_s: float = 5.0  # SIGTERM to SIGKILL
    drain_s: float = 10.0  # a worker told to stop lets its work run on for this long before it gives it back
    outage_s: float = 600.0  # a worker keeps its result for this long while database or blob store are away
    checkpoint_every_s: float = 60.0  # of training; 0: jobs leave no checkpoints
    checkpoint_keep_s: float = 7 * 86_400.0  # a failed or cancelled job can be resumed for this long
    child_file_bytes: int = 16 * _GIB  # largest file that a child may write
    child_memory_bytes: int = 16 * _GIB
    check_seconds: int = 120
    threads: int = 2
    device: Literal["auto", "cpu", "cuda"] = "auto"
    require_sandbox: Literal["auto", "full", "partial", "none"] = "auto"
    scratch_dir: Path | None = None  # default: <data_dir>/scratch
    fault_file: Path | None = None  # for tests alone: breaks a process where the file says (app.interruptions)

    @model_validator(mode="after")
    def _no_faults_in_production(self) -> Self:
        if self.profile == "production" and self.fault_file is not None:
            msg = "fault_file breaks processes for tests; the production profile does not start with it"
            raise ValueError(msg)
        return self

    @property
    def lets_anybody_in(self) -> bool:
        """Whether no key is asked for although others than this machine's users may call, or this is production."""
        return not self.api_keys and (self.profile == "production" or not is_loopback(self.host))

    @property
    def sandbox_floor(self) -> Literal["full", "partial", "none"]:
        """The least level of isolation that uploads are opened at."""
        if self.require_sandbox == "auto":
            return "full" if self.profile == "production" else "none"
        return self.require_sandbox

    @property
    def scratch(self) -> Path:
        """Folder for the attempts' scratch folders."""
        return self.scratch_dir or self.data_dir / "scratch"
