"""Triggers: a stored recipe or goal that a signed webhook, or the time of day, starts."""

from typing import Literal

from pydantic import Field, HttpUrl, SecretStr, model_validator

from app.contracts.base import Contract, DatasetId, DisplayName, JobId, ModelId, Tags, Timestamp, TriggerId
from app.contracts.goal import Goal
from app.contracts.job import Guard, Limits, TaskName, refuse_unclear
from app.contracts.recipe import Recipe
from app.contracts.source import RegisteredAlias, SourceName

JOB_TAG = "modelpress.job"  # of every version that the service registers; what has it starts no job
TriggerKind = Literal["standard", "mlflow", "cloudevents", "schedule"]


class TagMatch(Contract):
    """A tag of a model version in MLflow."""

    key: str
    value: str


class TriggerMatch(Contract):
    """Which deliveries start a job; an unset field matches anything."""

    events: list[str] = Field([], description="such as model_version.created, or a CloudEvent's type; empty: all")
    name: str | None = Field(None, description="registered model's name")
    alias: str | None = None
    source: str | None = Field(None, description="of a CloudEvent")
    subject: str | None = Field(None, description="of a CloudEvent")
    tag: TagMatch | None = Field(
        None, description="of the kind mlflow: set by model_version_tag.set, or with model_version.created"
    )


class Schedule(Contract):
    """Due times, as cron has them."""

    cron: str = Field(
        max_length=100,  # no sensible expression comes close
        description="five fields: minute, hour, day of the month, month, day of the week; names such as MON or JAN",
        examples=["0 3 * * 1-5"],
    )
    timezone: str = Field("UTC", max_length=100, description="an IANA name", examples=["Europe/Berlin"])


class ScheduleOutcome(Contract):
    """What the latest due time led to: the job it started, or why it started none."""

    due_at: Timestamp
    at: Timestamp = Field(description="when the sweeper saw to it")
    accepted: bool
    job: JobId | None = None
    reason: str = ""
    missed: int = Field(0, description="later due times that had passed as well: one job stands for all, up to 1000")


class RegistryResult(Contract):
    """What the result becomes in the registry."""

    name: str = Field(
        "{name}-compressed",
        pattern=r"^[^/:{}\x00-\x1f]*(\{name\})?[^/:{}\x00-\x1f]*$",
        min_length=1,
        max_length=200,
        description="registered model that gets a version; {name} stands for the delivered one's name",
    )
    alias: RegisteredAlias | None = Field("compressed", description="alias to set on that version; null: none")
    tags: Tags = Field({}, description="further tags of that version")


class RegistryLoop(Contract):
    """Pull the version that a delivery of MLflow names, and register the result."""

    server: SourceName = Field("default", description="server that the operator named (MODELPRESS_MLFLOW_SERVERS)")
    result: RegistryResult | None = Field(RegistryResult(), description="null: the result is not registered")


class TriggerCreate(Contract):
    """Store a recipe, or a goal, behind a hook or a schedule."""

    name: DisplayName
    kind: TriggerKind = "standard"
    schedule: Schedule | None = Field(None, description="for the kind schedule, which takes no deliveries")
    secret: SecretStr | None = Field(None, description="shared with the sender; made by us when missing")
    recipe: Recipe | None = None
    goal: Goal | None = Field(None, description="what to reach, in place of a recipe")
    dataset: DatasetId | None = None
    model: ModelId | None = Field(
        None, description="the model to compress when the delivery names none of ours; a schedule needs it"
    )
    mlflow: RegistryLoop | None = Field(None, description="for kind mlflow: compress the version that is delivered")
    task: TaskName = "classification"
    seed: int = Field(0, ge=0, lt=2**31)
    guard: Guard | None = None
    limits: Limits = Limits()
    match: TriggerMatch = TriggerMatch()
    webhook: HttpUrl | None = Field(None, description="told at the end of each job, signed with the same secret")

    @model_validator(mode="after")
    def _one_of_two(self) -> "TriggerCreate":
        refuse_unclear(self.recipe, self.goal, self.guard)
        if self.mlflow is not None and (self.kind != "mlflow" or self.model is not None):
            msg = "`mlflow` needs the kind mlflow, and no `model`: the delivery names the one to compress"
            raise ValueError(msg)
        return self


class Trigger(Contract):
    """A stored trigger. `secret` is shown once, in the answer to its creation."""

    id: TriggerId
    name: str
    kind: TriggerKind
    hook: str | None = Field(description="path to POST deliveries to; null for a schedule")
    secret: str | None = None
    schedule: Schedule | None = None
    next_at: Timestamp | None = Field(
        None, description="when the schedule is due; in the past while what stood against the job is waited out"
    )
    last: ScheduleOutcome | None = None
    recipe: Recipe | None = None
    goal: Goal | None = None
    dataset: DatasetId | None
    model: ModelId | None
    mlflow: RegistryLoop | None = None
    task: TaskName
    seed: int
    guard: Guard | None
    limits: Limits
    match: TriggerMatch
    webhook: HttpUrl | None
    created_at: Timestamp


class Delivery(Contract):
    """What a delivery led to: the job it started, or why it started none."""

    accepted: bool
    job: JobId | None = None
    reason: str = ""
