"""`/v1/keys`: the keys of the caller's own tenant, for keys with the scope `admin`."""

from fastapi import APIRouter
from starlette.responses import Response

from app.api.access import ADMINISTRATION, CallerGiven, CursorGiven
from app.api.problems import documented
from app.contracts.base import Page
from app.contracts.key import Key, KeyCreate, KeyRotate
from app.errors import Conflict, NotFound, ScopeMissing
from app.services import keys

router = APIRouter(prefix="/keys", tags=[ADMINISTRATION])


@router.post("", status_code=201, response_model=Key, responses=documented(ScopeMissing))
def create_key(caller: CallerGiven, create: KeyCreate) -> Response:
    """Make a key. The answer is the only one that shows it."""
    return _made(keys.create(caller, create))


@router.get("", responses=documented(ScopeMissing))
def list_keys(caller: CallerGiven, cursor: CursorGiven) -> Page[Key]:
    """List keys, newest first, revoked and expired ones too."""
    return keys.page(caller, cursor)


@router.get("/{key_id}", responses=documented(NotFound, ScopeMissing))
def read_key(caller: CallerGiven, key_id: str) -> Key:
    """Read what a key may do and when it was used; the key is not shown again."""
    return keys.read(caller, key_id)


@router.post(
    "/{key_id}/rotate", status_code=201, response_model=Key, responses=documented(NotFound, Conflict, ScopeMissing)
)
def rotate_key(caller: CallerGiven, key_id: str, rotate: KeyRotate) -> Response:
    """Make a key with the same name and scopes; the old one ends after the grace."""
    return _made(keys.rotate(caller, key_id, rotate))


@router.delete("/{key_id}", status_code=204, responses=documented(NotFound, ScopeMissing))
def revoke_key(caller: CallerGiven, key_id: str) -> None:
    """Revoke a key: no gateway takes it after a few seconds. It stays in the list."""
    keys.revoke(caller, key_id)


def _made(key: Key) -> Response:
    return Response(key.model_dump_json(), 201, {"Location": f"/v1/keys/{key.id}"}, "application/json")
