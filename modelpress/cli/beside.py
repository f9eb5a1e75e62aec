"""Runs an operator's module of the services in a process of its own, since the client knows nothing of them."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from app.contracts.problem import Problem
from modelpress import broker
from modelpress.errors import ClientError, InvalidInput, problem_error

_REFUSED = 5

DataFolder = Annotated[
    Path | None, typer.Option("--data", help="Data folder of `modelpress up`; default: MODELPRESS_DATA_DIR, or var.")
]


def ask(module: str, arguments: list[str], data: Path | None) -> Any:  # noqa: ANN401  # whatever JSON says
    """Return what the module prints.

    Raises InvalidInput where the services are not installed, ProblemError for a refusal, ClientError for a fault.
    """
    if importlib.util.find_spec("pydantic_settings") is None:
        raise InvalidInput("only the client is installed here; run it where the gateway or a worker is")
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=_environment(data), check=False)  # noqa: S603  # our own
    try:
        found = json.loads(done.stdout)
    except ValueError as error:
        raise ClientError(f"{module} broke off with code {done.returncode}") from error
    if done.returncode == _REFUSED:
        raise problem_error(Problem.model_validate(found))
    return found


def _environment(data: Path | None) -> Mapping[str, str]:
    """Return this process's environment, with the stores that `modelpress up` has in the data folder."""
    env = dict(os.environ)  # noqa: TID251  # handed on, not read
    if data is None:
        return env
    env["MODELPRESS_DATA_DIR"] = str(data.absolute())
    if "BROKER_URL" not in env and data.is_dir():
        env["BROKER_URL"] = broker.url(broker.socket_path(data.absolute()))
    return env
