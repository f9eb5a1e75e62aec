"""A seccomp filter for the compute child, assembled here: system calls it has no business with answer EPERM.

Denied are sockets, new programs and new processes, other processes' memory and signals, kernel interfaces with a long
record of faults (io_uring, bpf, perf, userfaultfd, keyrings), mounts and clocks. Threads, files, memory and device
ioctls stay. Follows seccomp(2); knows nothing of Landlock or of the child's work.
"""

import ctypes
import errno
import os
import platform
import struct

_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # AUDIT_ARCH_… of <linux/audit.h>

# Name: numbers on x86_64 and aarch64 (<asm/unistd_64.h>, <asm-generic/unistd.h>); None where it does not exist.
_DENIED: dict[str, tuple[int | None, int | None]] = {
    "socket": (41, 198), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201), "accept": (43, 202),
    "accept4": (288, 242), "sendto": (44, 206), "sendmsg": (46, 211), "sendmmsg": (307, 269),
    "execve": (59, 221), "execveat": (322, 281), "fork": (57, None), "vfork": (58, None),
    "setsid": (112, 157), "setpgid": (109, 154), "unshare": (272, 97), "setns": (308, 268),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "process_madvise": (440, 440), "kcmp": (312, 272), "pidfd_open": (434, 434), "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424), "tkill": (200, 130), "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282), "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "keyctl": (250, 219), "add_key": (248, 217),
    "request_key": (249, 218), "fanotify_init": (300, 262),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "move_mount": (429, 429),
    "open_tree": (428, 428), "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433),
    "mount_setattr": (442, 442), "open_by_handle_at": (304, 265), "name_to_handle_at": (303, 264),
    "mknod": (133, None), "mknodat": (259, 33), "swapon": (167, 224), "swapoff": (168, 225), "quotactl": (179, 60),
    "acct": (163, 89), "kexec_load": (246, 104), "kexec_file_load": (320, 294), "init_module": (175, 105),
    "finit_module": (313, 273), "delete_module": (176, 106), "reboot": (169, 142), "settimeofday": (164, 170),
    "clock_settime": (227, 112), "clock_adjtime": (305, 266), "adjtimex": (159, 171), "syslog": (103, 116),
    "iopl": (172, None), "ioperm": (173, None), "modify_ldt": (154, None), "personality": (135, 92),
    "sethostname": (170, 161), "setdomainname": (171, 162),
}  # fmt: skip
_CLONE, _CLONE3, _PRCTL = (56, 220), (435, 435), (157, 167)
_OWN_PROCESS_ONLY = ((62, 129), (234, 131))  # kill, tgkill
_OWN_LIMITS_ONLY = (302, 261)  # prlimit64

_CLONE_THREAD = 0x10000
_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 22, 38
_FILTER_MODE = 2
_X32_CALLS = 0x40000000  # x86_64's second numbering, refused whole

_ALLOW, _KILL = 0x7FFF0000, 0x80000000
_REFUSE, _ABSENT = 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # opcodes of <linux/bpf_common.h>
_AT_NUMBER, _AT_ARCHITECTURE, _AT_FIRST_ARGUMENT = 0, 4, 16  # offsets into struct seccomp_data, little-endian

_Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, constant


def install() -> bool:
    """Confine this process, its threads to come and its descendants; return False where the kernel has no seccomp."""
    machine = platform.machine()
    if machine not in _ARCHITECTURES:
        return False
    code = b"".join(struct.pack("=HBBI", *one) for one in _program(machine, os.getpid()))
    buffer = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("@HP", len(code) // 8, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return False
    return bool(libc.prctl(_PR_SET_SECCOMP, _FILTER_MODE, program, 0, 0) == 0)


def _program(machine: str, pid: int) -> list[_Instruction]:
    """Return the filter of the process `pid` as BPF instructions."""
    column = list(_ARCHITECTURES).index(machine)
    program: list[_Instruction] = [
        (_LOAD, 0, 0, _AT_ARCHITECTURE),
        (_EQUAL, 1, 0, _ARCHITECTURES[machine]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _AT_NUMBER),
    ]
    if machine == "x86_64":
        program += [(_AT_LEAST, 0, 1, _X32_CALLS), (_RETURN, 0, 0, _REFUSE)]
    for numbers in _DENIED.values():
        number = numbers[column]
        if number is not None:
            program += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _REFUSE)]
    # glibc makes threads with clone when clone3 is absent; only clone's flags can be examined here.
    program += [(_EQUAL, 0, 1, _CLONE3[column]), (_RETURN, 0, 0, _ABSENT)]
    program += _when(_CLONE[column], [(_ANY_BIT, 1, 0, _CLONE_THREAD), (_RETURN, 0, 0, _REFUSE)])
    program += _when(_PRCTL[column], [(_EQUAL, 0, 1, _PR_SET_PDEATHSIG), (_RETURN, 0, 0, _REFUSE)])
    for numbers in _OWN_PROCESS_ONLY:
        program += _when(numbers[column], [(_EQUAL, 1, 0, pid), (_RETURN, 0, 0, _REFUSE)])
    own = [(_EQUAL, 2, 0, 0), (_EQUAL, 1, 0, pid), (_RETURN, 0, 0, _REFUSE)]
    program += _when(_OWN_LIMITS_ONLY[column], own)
    return [*program, (_RETURN, 0, 0, _ALLOW)]


def _when(number: int, body: list[_Instruction]) -> list[_Instruction]:
    """Run `body` on the first argument of system call `number`; falling off its end allows the call."""
    return [
        (_EQUAL, 0, len(body) + 2, number),
        (_LOAD, 0, 0, _AT_FIRST_ARGUMENT),
        *body,
        (_RETURN, 0, 0, _ALLOW),
    ]
