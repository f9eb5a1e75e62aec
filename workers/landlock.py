"""Landlock for the compute child: it reads what it is given, writes its scratch folder, and nothing else.

Follows landlock(7), ABI 1 to 6. Knows nothing of seccomp or of the child's work.
"""

import ctypes
import os
import stat
import struct
from collections.abc import Iterable
from pathlib import Path

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # the same numbers on every architecture
_VERSION_FLAG, _PATH_BENEATH = 1, 1
_PR_SET_NO_NEW_PRIVS = 38

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REMOVE_DIR, _REMOVE_FILE, _MAKE_DIR, _MAKE_REG = 1 << 4, 1 << 5, 1 << 7, 1 << 8
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_FILE_RIGHTS = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV

_READ = _READ_FILE | _READ_DIR
_DEVICE = _READ | _WRITE_FILE | _IOCTL_DEV
# No MAKE_SYM, MAKE_FIFO, MAKE_SOCK or MAKE_CHAR: what the child leaves behind are files and folders.
_SCRATCH = _READ | _WRITE_FILE | _TRUNCATE | _MAKE_REG | _MAKE_DIR | _REMOVE_FILE | _REMOVE_DIR | _REFER

_RIGHTS_BY_ABI = (0, 13, 14, 15, 15, 16)  # how many file-system rights each ABI knows, from ABI 0
_TCP = 0b11  # bind and connect, from ABI 4
_SCOPES = 0b11  # abstract unix sockets and signals stay inside, from ABI 6
_ABI_NET, _ABI_SCOPES = 4, 6


def restrict(readable: Iterable[Path], writable: Iterable[Path], devices: Iterable[Path]) -> bool:
    """Confine this process for good; missing paths are skipped. Return False where the kernel has no Landlock."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    abi = libc.syscall(_CREATE, None, 0, _VERSION_FLAG)
    if abi < 1:
        return False
    handled = (1 << _RIGHTS_BY_ABI[min(abi, len(_RIGHTS_BY_ABI) - 1)]) - 1
    ruleset = _create(libc, abi, handled)
    for paths, rights in ((readable, _READ), (writable, _SCRATCH), (devices, _DEVICE)):
        for path in paths:
            _allow(libc, ruleset, path, rights & handled)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    done = libc.syscall(_RESTRICT, ruleset, 0) == 0
    os.close(ruleset)
    return bool(done)


def _create(libc: ctypes.CDLL, abi: int, handled: int) -> int:
    fields = [handled]
    if abi >= _ABI_NET:
        fields.append(_TCP)
    if abi >= _ABI_SCOPES:
        fields.append(_SCOPES)
    attributes = struct.pack(f"={len(fields)}Q", *fields)
    return _checked(libc.syscall(_CREATE, attributes, len(attributes), 0))


def _allow(libc: ctypes.CDLL, ruleset: int, path: Path, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            rights &= _FILE_RIGHTS
        _checked(libc.syscall(_ADD, ruleset, _PATH_BENEATH, struct.pack("=Qi", rights, descriptor), 0))
    finally:
        os.close(descriptor)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
