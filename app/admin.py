"""`python -m app.admin`: what an operator does beside the database, as JSON; `modelpress admin` makes tables of it.

Changes go to the audit log, on standard error, as those of REST do.
"""

import argparse
import json
import os
import pwd
import sys
from collections.abc import Callable, Sequence

from pydantic import BaseModel

from app import audit, logging
from app.contracts.base import new_id
from app.contracts.operations import WorkStanding
from app.errors import ModelpressError, NotFound
from app.problems import problem_of
from app.resources import Resources, connect
from app.services import operations
from app.settings import Settings
from app.stores.database import missing_file

_DONE = 200
_REFUSED = 5  # as the command line has it
Change = Callable[[Resources], WorkStanding]


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what is asked and print it; a refusal is printed as a problem and exits with 5."""
    options = _parser().parse_args(arguments)
    settings = Settings()
    logging.configure("INFO")
    try:
        _refuse_missing(settings)
        with connect(settings) as resources:
            _print(_do(resources, options))
    except ModelpressError as error:
        _print(problem_of(error))
        return _REFUSED
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="app.admin", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("queues", help="how the queues stand")
    retiring = commands.add_parser("retention", help="remove what was kept for long enough")
    retiring.add_argument("--dry-run", action="store_true", help="only tell what would go")
    for name, about in (("work", "how it stands"), ("requeue", "put it back"), ("quarantine", "set it aside")):
        command = commands.add_parser(name, help=about)
        command.add_argument("id", help="of a model, data set, job or benchmark")
    command.add_argument("--reason", default="", help="told to the tenant")
    return parser


def _refuse_missing(settings: Settings) -> None:
    """Raise NotFound where there is no embedded database, so that looking does not make an empty one."""
    missing = missing_file(settings.database_url, settings.data_dir)
    if missing is not None:
        msg = f"There is no database at {missing}: name the data folder with --data, or the database with DATABASE_URL."
        raise NotFound(msg)


def _do(resources: Resources, options: argparse.Namespace) -> BaseModel | list[BaseModel]:
    if options.command == "queues":
        return [*operations.queues(resources)]
    if options.command == "retention":
        return _retire(resources, dry_run=options.dry_run)
    if options.command == "work":
        return operations.standing(resources, options.id)
    if options.command == "requeue":
        return _audited(resources, "requeue_work", options.id, lambda of: operations.requeue(of, options.id))
    reason: str = options.reason
    return _audited(resources, "quarantine_work", options.id, lambda of: operations.quarantine(of, options.id, reason))


def _retire(resources: Resources, *, dry_run: bool) -> list[BaseModel]:
    found = operations.retire(resources, dry_run=dry_run)
    if not dry_run:
        for tenant in sorted({one.tenant for one in found}):
            audit.write("apply_retention", None, _DONE, tenant=tenant, **_who())
    return [*found]


def _audited(resources: Resources, action: str, target: str, change: Change) -> WorkStanding:
    """Make the change and write its line, whatever becomes of it."""
    who = _who()
    try:
        after = change(resources)
    except ModelpressError as error:
        audit.write(action, target, error.status, **who)
        raise
    audit.write(action, target, _DONE, tenant=after.tenant, **who)
    return after


def _who() -> dict[str, str]:
    return {"key_id": f"operator:{_user()}", "request_id": new_id("req")}


def _user() -> str:
    """Return the name of the user that this runs as, by the system's word and not by the environment's."""
    number = os.getuid()
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:  # in a container a number is all there is
        return str(number)


def _print(found: BaseModel | list[BaseModel]) -> None:
    shown = [one.model_dump(mode="json") for one in found] if isinstance(found, list) else found.model_dump(mode="json")
    sys.stdout.write(json.dumps(shown) + "\n")


if __name__ == "__main__":
    sys.exit(main())
