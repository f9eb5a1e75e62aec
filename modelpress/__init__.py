"""The user's side of modelpress: a typed client over the REST API. Knows `app.contracts` and nothing else of ours."""

from app.contracts.artifact import Artifact
from app.contracts.benchmark import Benchmark
from app.contracts.dataset import Columns, Dataset, Splits
from app.contracts.goal import Goal
from app.contracts.job import Event, Guard, Job, JobState, Limits
from app.contracts.model import Model
from app.contracts.recipe import Recipe
from app.contracts.report import Report
from app.contracts.search import Point, Search
from app.contracts.technique import TechniqueInfo
from app.contracts.trigger import Trigger, TriggerCreate
from app.contracts.upload import Upload
from modelpress.client import Client
from modelpress.errors import (
    ClientError,
    Conflict,
    InvalidInput,
    InvalidRequest,
    NotFound,
    ProblemError,
    ServerUnreachable,
    ServiceFault,
    TransferError,
    Unauthorized,
)

__all__ = [
    "Artifact",
    "Benchmark",
    "Client",
    "ClientError",
    "Columns",
    "Conflict",
    "Dataset",
    "Event",
    "Goal",
    "Guard",
    "InvalidInput",
    "InvalidRequest",
    "Job",
    "JobState",
    "Limits",
    "Model",
    "NotFound",
    "Point",
    "ProblemError",
    "Recipe",
    "Report",
    "Search",
    "ServerUnreachable",
    "ServiceFault",
    "Splits",
    "TechniqueInfo",
    "TransferError",
    "Trigger",
    "TriggerCreate",
    "Unauthorized",
    "Upload",
]
