"""`python -m app.doctor`: looks at this installation and prints findings as JSON; exits with 1 if one is a problem.

`modelpress doctor` makes a table of them.
"""

import json
import sys
from collections.abc import Iterator

from pydantic import ValidationError

from app.contracts.operations import Finding
from app.doctor import machine, queues, settings, stores
from app.doctor.words import problem
from app.errors import ModelpressError
from app.resources import Resources, connect
from app.settings import Settings
from app.stores.database import missing_file


def findings() -> Iterator[Finding]:
    """Yield everything that was looked at; nothing is raised, whatever is away."""
    try:
        given = Settings()
    except ValidationError as error:
        for fault in error.errors(include_url=False, include_input=False):
            name = "_".join(map(str, fault["loc"])).upper()
            cure = f"correct MODELPRESS_{name}" if name else "correct the settings; docs/operations.md lists them"
            yield problem("settings", f"{name or 'settings'}: {fault['msg']}; nothing starts", cure)
        return
    yield from settings.look(given)
    yield from stores.look_at_folder(given)
    yield from _stores(given)
    yield from machine.look()


def _stores(given: Settings) -> Iterator[Finding]:
    missing = missing_file(given.database_url, given.data_dir)
    if missing is not None:
        cure = "start the service once (modelpress up), or name the right folder: --data or MODELPRESS_DATA_DIR"
        yield problem("database", f"there is none at {missing}", cure)
        return
    with connect(given) as resources:
        yield from _connected(resources)


def _connected(resources: Resources) -> Iterator[Finding]:
    about_database = [*stores.look_at_database(resources.database)]
    yield from about_database
    yield from stores.look_at_broker(resources)
    yield from stores.look_at_blobs(resources)
    if any(one.level == "problem" and one.about == "database" for one in about_database):
        return
    try:
        yield from queues.look(resources)
    except ModelpressError as error:
        yield problem("queues", error.detail, error.cure)


def main() -> int:
    """Print every finding as one JSON array."""
    found = [*findings()]
    sys.stdout.write(json.dumps([one.model_dump() for one in found]) + "\n")
    return int(any(one.level == "problem" for one in found))


if __name__ == "__main__":
    sys.exit(main())
