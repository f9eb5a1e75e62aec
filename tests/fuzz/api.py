"""The API against its own description: `python -m tests.fuzz.api`. Schemathesis in all its phases, on a real gateway.

Path parameters are often ids of things that are there, so that answers of success are checked too, not refusals alone.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from app.resources import connect
from app.settings import Settings
from tests.app.acting_worker import ActingWorker
from tests.app.seeds import published, ready_dataset, ready_model
from tests.app.serving import serving
from tests.fuzz.hooks import SECRETS

KEY, TENANT = "a key for the fuzzer alone", "fuzz"
HOOKS = "tests.fuzz.hooks"
OF_EACH = 4  # things of a kind to begin with; deletions use them up
# Recipes make thousands of cases in the coverage phase; the short run leaves these two to the other phases.
LONG = ("POST /v1/jobs", "POST /v1/triggers")
CONFIG = """\
hooks = "{hooks}"
continue-on-failure = true

[generation.dictionaries]
string = {{ dictionary = "ids", probability = 0.1 }}

# A valid body may name what is not there or cannot work together: 422 with pointers, by the contract of the API. 413,
# 415 and 411 are about headers that the description cannot tie to the body, 406 about Accept.
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "3xx", 401, 403, 404, 406, 409, 410, 411, 413, 415, 416, 422, 429]
"""


@dataclass(frozen=True)
class Run:
    """How much to try: `examples` per operation and phase; `short` leaves out what takes long."""

    examples: int
    seed: int
    short: bool


def run(folder: Path, wanted: Run) -> tuple[int, str]:
    """Start a gateway on the folder, fuzz it, and return Schemathesis' exit code and what it said."""
    with serving(folder, api_keys=json.dumps({KEY: TENANT}), log_level="WARNING") as served:
        ids, secrets = asyncio.run(_seed(served.url, folder))
        config = folder / "schemathesis.toml"
        config.write_text(_config(ids, wanted), encoding="utf-8")
        found = subprocess.run(
            _command(config, served.url, wanted),
            env=_environment() | {SECRETS: json.dumps(secrets)},
            capture_output=True,
            encoding="utf-8",
            cwd=folder,
            check=False,
        )
    broken = (folder / "gateway.log").read_text(encoding="utf-8")
    return found.returncode, f"{found.stdout}{found.stderr}{broken}"


def _command(config: Path, url: str, wanted: Run) -> list[str]:
    schemathesis = str(Path(sys.executable).with_name("schemathesis"))
    options = ["--checks", "all", "--no-shrink", "--seed", str(wanted.seed), "--max-examples", str(wanted.examples)]
    header = f"Authorization: Bearer {KEY}"
    return [schemathesis, "--config-file", str(config), "run", f"{url}/openapi.json", "--header", header, *options]


def _environment() -> dict[str, str]:
    root = str(Path(__file__).parents[2])
    return {**os.environ, "PYTHONPATH": root, "HYPOTHESIS_STORAGE_DIRECTORY": tempfile.gettempdir()}  # noqa: TID251 - handed on


def _config(ids: dict[str, list[str]], wanted: Run) -> str:
    lines = [CONFIG.format(hooks=HOOKS)]
    for kind, values in ids.items():
        lines += [f"[dictionaries.{kind}]", f"values = {json.dumps(values)}"]
    lines += ["[parameters]"]
    lines += [f'"path.{kind}" = {{ dictionary = "{kind}", probability = 0.6 }}' for kind in ids if kind != "ids"]
    for name in LONG if wanted.short else ():
        lines += ["[[operations]]", f"include-name = {json.dumps(name)}", "phases.coverage.enabled = false"]
    return "\n".join(lines) + "\n"


async def _seed(url: str, folder: Path) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Make things of every kind; return their ids by path parameter, all as `ids`, and the triggers' secrets."""
    ids: dict[str, list[str]] = defaultdict(list)
    secrets: dict[str, str] = {}
    headers = {"Authorization": f"Bearer {KEY}"}
    with connect(Settings(data_dir=folder)) as resources:
        worker = ActingWorker(resources)
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60) as client:
            for _ in range(OF_EACH):
                secrets |= await _seed_one(client, worker, ids)
    return {**ids, "ids": [found for values in ids.values() for found in values]}, secrets


async def _seed_one(client: httpx.AsyncClient, worker: ActingWorker, ids: dict[str, list[str]]) -> dict[str, str]:
    artifact = await published(client, worker, tenant=TENANT)
    read = (await client.get(f"/v1/artifacts/{artifact}")).json()
    ids["artifact_id"].append(artifact)
    ids["job_id"].append(read["job"])
    ids["model_id"].append(await ready_model(client, worker))
    ids["dataset_id"].append(await ready_dataset(client, worker))
    made = {
        "upload_id": client.post("/v1/uploads", headers={"Upload-Complete": "?0"}),
        "benchmark_id": client.post(f"/v1/artifacts/{artifact}/benchmarks", json={}),
        "trigger_id": client.post("/v1/triggers", json={"name": "a", "recipe": read["recipe"]}),
        "key_id": client.post("/v1/keys", json={"name": "a"}),
    }
    answers = {parameter: (await call).json() for parameter, call in made.items()}
    for parameter, answer in answers.items():
        ids[parameter].append(answer["id"])
    return {answers["trigger_id"]["id"]: answers["trigger_id"]["secret"]}


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz and print the report; return how Schemathesis ended."""
    parser = argparse.ArgumentParser(prog="tests.fuzz.api", description=__doc__)
    parser.add_argument("--examples", type=int, default=200, help="per operation and phase")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--short", action="store_true", help="as `make test` runs it")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        code, said = run(Path(folder), Run(options.examples, options.seed, options.short))
    sys.stdout.write(said)
    return code


if __name__ == "__main__":
    sys.exit(main())
