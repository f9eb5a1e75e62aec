"""`python -m app.keys <tenant>`: makes a tenant's first key straight in the database; the rest goes by REST."""

import argparse
import sys
from collections.abc import Sequence

from app.contracts.key import SCOPES, KeyCreate
from app.resources import connect
from app.services import keys
from app.services.caller import Caller
from app.settings import Settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Make a key and print it, once, on standard output."""
    parser = argparse.ArgumentParser(prog="app.keys", description=__doc__)
    parser.add_argument("tenant", help="whose key; a new name makes a new tenant")
    parser.add_argument("--name", default="first key", help="to tell keys apart by")
    parser.add_argument("--scope", action="append", choices=SCOPES, help="repeatable; default: all")
    options = parser.parse_args(arguments)
    request = KeyCreate(name=options.name, scopes=options.scope or list(SCOPES))
    with connect(Settings()) as resources:
        made = keys.create(Caller(options.tenant, resources), request)
    sys.stdout.write(f"{made.key}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
