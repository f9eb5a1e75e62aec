"""Runs a command as on a kernel without Landlock: its system calls answer that there are none."""

import ctypes
import errno
import os
import struct
import sys

_LANDLOCK = (444, 446)  # create_ruleset, add_rule, restrict_self
_LOAD, _AT_LEAST, _ABOVE, _RETURN = 0x20, 0x35, 0x25, 0x06
_ALLOW, _ABSENT = 0x7FFF0000, 0x00050000 | errno.ENOSYS
_NO_NEW_PRIVS, _SECCOMP, _FILTER = 38, 22, 2

PROGRAM = [
    (_LOAD, 0, 0, 0),
    (_AT_LEAST, 0, 2, _LANDLOCK[0]),
    (_ABOVE, 1, 0, _LANDLOCK[1]),
    (_RETURN, 0, 0, _ABSENT),
    (_RETURN, 0, 0, _ALLOW),
]

if __name__ == "__main__":
    code = b"".join(struct.pack("=HBBI", *one) for one in PROGRAM)
    buffer = ctypes.create_string_buffer(code, len(code))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0)
    if libc.prctl(_SECCOMP, _FILTER, struct.pack("@HP", len(PROGRAM), ctypes.addressof(buffer)), 0, 0) != 0:
        sys.exit(99)
    os.execv(sys.argv[1], sys.argv[1:])  # noqa: S606 - the test's own command
