"""Keeping this very process from the network, from other processes and from files: Landlock and seccomp on Linux.

Standard library alone: the sandbox's worker loads this file without the package. What is kept away is named; a system
call that is not, is allowed. Constants are those of the kernel's `landlock.h`, `seccomp.h` and `filter.h`, and of its
tables of system calls.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
from collections.abc import Iterable, Sequence
from functools import cache

NO_NEW_PRIVILEGES, SET_SECCOMP, FILTER_MODE, SUBREAPER = 38, 22, 2, 36
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # the same on every architecture
PATH_BENEATH = 1

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1, 2, 4, 8
READING = EXECUTE | READ_FILE | READ_DIR
OLDEST = (1 << 13) - 1  # all rights of the first version: to read, write, make and remove
REFER, TRUNCATE, DEVICES = 1 << 13, 1 << 14, 1 << 15  # of versions 2, 3 and 5

ALLOW, KILL, ERROR = 0x7FFF0000, 0x80000000, 0x00050000
PERMISSION, NO_SUCH_CALL = 1, 38
MACHINES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}

# Name -> its number on x86_64 and on aarch64, None where there is none.
NETWORK = {"socket": (41, 198), "io_uring_setup": (425, 425)}
PROCESSES = {"fork": (57, None), "vfork": (58, None), "execve": (59, 221), "execveat": (322, 281)}
CLONE, CLONE3, LIMIT = (56, 220), (435, 435), (302, 261)
THREAD = 0x00010000
OTHERS = {
    # signals to, and looks into, other processes of the same user
    "kill": (62, 129),
    "tkill": (200, 130),
    "tgkill": (234, 131),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "setrlimit": (160, 164),
    "setpriority": (141, 140),
    # what Landlock does not see: modes, owners, times and attributes of files
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, None),
    "fchown": (93, 55),
    "lchown": (94, None),
    "fchownat": (260, 54),
    "utime": (132, None),
    "utimes": (235, None),
    "futimesat": (261, None),
    "utimensat": (280, 88),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "open_by_handle_at": (304, 265),
    # memory that outlives the process or passes its limits
    "shmget": (29, 194),
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    "memfd_create": (319, 279),
    # what only the machine's owner should do, and ways around all this
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "unshare": (272, 97),
    "setns": (308, 268),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
}


class _Rules(ctypes.Structure):
    _fields_ = [("fs", ctypes.c_uint64)]


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32)]


class _Filter(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("program", ctypes.c_void_p)]


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _call(number: int, *arguments: int | ctypes._Pointer[ctypes.Structure] | None) -> int:
    libc = _libc()
    libc.syscall.restype = ctypes.c_long
    sent = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    return int(libc.syscall(ctypes.c_long(number), *sent))


def landlock_version() -> int:
    """The version of Landlock that this kernel offers; 0 for none."""
    if not sys.platform.startswith("linux"):
        return 0
    return max(0, _call(CREATE_RULESET, None, 0, 1))


def file_rules(writable: str, readable: Iterable[str] | None) -> int | None:
    """A Landlock ruleset: all of `writable`, and of the rest `readable` to read, or everything where that is None.

    Gives its file descriptor, for `keep_from_files` in this process or a child; None where the kernel has no Landlock.
    """
    version = landlock_version()
    if version == 0:
        return None
    handled = OLDEST | (REFER if version >= 2 else 0) | (TRUNCATE if version >= 3 else 0)
    handled |= DEVICES if version >= 5 else 0
    writing = handled & ~READING
    rules = _Rules(handled if readable is not None else writing)
    found = _call(CREATE_RULESET, ctypes.pointer(rules), ctypes.sizeof(rules), 0)
    if found < 0:
        return None
    _allow(found, writable, rules.fs)
    # A program may throw its output away and ask for random bytes.
    _allow(found, "/dev/null", rules.fs & (READ_FILE | WRITE_FILE | TRUNCATE))
    for path in readable or ():
        _allow(found, path, READING)
    if readable is not None:
        _allow(found, "/dev/urandom", READ_FILE)
    return found


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not os.path.isdir(path):
            rights &= EXECUTE | READ_FILE | WRITE_FILE | TRUNCATE | DEVICES
        rule = _Beneath(rights, parent)
        if _call(ADD_RULE, ruleset, PATH_BENEATH, ctypes.pointer(rule), 0) < 0:
            raise OSError(ctypes.get_errno(), f"Landlock does not take `{path}`")
    finally:
        os.close(parent)


def give_up_privileges() -> None:
    """Neither this process nor what it starts can gain rights by running a program: what the rest is built on."""
    if _libc().prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "privileges cannot be given up")


def keep_from_files(rules: int) -> None:
    """Hold this process to a ruleset, for good."""
    if _call(RESTRICT_SELF, rules, 0) < 0:
        raise OSError(ctypes.get_errno(), "Landlock does not hold")


def adopt_orphans() -> bool:
    """Processes whose parent ends become children of this one, wherever they went; whether that can be had here."""
    return sys.platform.startswith("linux") and bool(_libc().prctl(SUBREAPER, 1, 0, 0, 0) == 0)


def own_children() -> list[int]:
    """The ids of this process's children, the ended ones that nobody waited for among them."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children") as file:
            return [int(number) for number in file.read().split()]
    except OSError:
        return []


def can_filter() -> bool:
    """Whether system calls can be filtered here."""
    return sys.platform.startswith("linux") and platform.machine() in MACHINES and sys.maxsize > 2**32


def filter_program(*, network: bool, processes: bool) -> bytes:
    """A classic BPF program for seccomp: the named calls get EPERM, all others pass."""
    architecture, column = MACHINES[platform.machine()]
    names: list[dict[str, tuple[int, int | None]]] = [OTHERS]
    names += [] if network else [NETWORK]  # type: ignore[list-item]
    names += [] if processes else [PROCESSES]
    refused = sorted(number for group in names for pair in group.values() if (number := pair[column]) is not None)
    program = [
        _load(4),  # the architecture
        _jump(0x15, architecture, 1, 0),
        _give(KILL),
        _load(0),  # the number of the call
        _jump(0x35, 0x40000000, 0, 1),  # the other numbering of x86_64
        _give(ERROR | PERMISSION),
    ]
    for number in refused:
        program += [_jump(0x15, number, 0, 1), _give(ERROR | PERMISSION)]
    if not processes:  # a thread may be made; clone3 hides its flags, so that libc is sent back to clone
        program += [_jump(0x15, CLONE3[column], 0, 1), _give(ERROR | NO_SUCH_CALL)]
        program += [
            _jump(0x15, CLONE[column], 0, 4),
            _load(16),
            _jump(0x45, THREAD, 1, 0),
            _give(ERROR | PERMISSION),
            _load(0),
        ]
    # A limit may be read and not set: the new one is the third argument, 64 bits wide.
    program += [
        _jump(0x15, LIMIT[column], 0, 5),
        _load(32),
        _jump(0x15, 0, 0, 2),
        _load(36),
        _jump(0x15, 0, 1, 0),
        _give(ERROR | PERMISSION),
        _give(ALLOW),
    ]
    return b"".join(program)


def keep_from_calls(program: bytes) -> None:
    """Hold this process to a filter, for good."""
    held = ctypes.create_string_buffer(program, len(program))
    given = _Filter(len(program) // 8, ctypes.cast(held, ctypes.c_void_p).value)
    if _libc().prctl(SET_SECCOMP, FILTER_MODE, ctypes.byref(given), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "system calls cannot be filtered")


def _load(offset: int) -> bytes:
    return struct.pack("HBBI", 0x20, 0, 0, offset)


def _jump(code: int, value: int, if_true: int, if_false: int) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, value)


def _give(value: int) -> bytes:
    return struct.pack("HBBI", 0x06, 0, 0, value)


def python_folders() -> Sequence[str]:
    """What a Python program has to read: the interpreter, its libraries, those of the system and the time zones."""
    own = {sys.prefix, sys.base_prefix, sys.exec_prefix, os.path.dirname(os.path.realpath(sys.executable))}
    own |= {path for path in sys.path if path.endswith(("site-packages", "dist-packages"))}
    system = ("/usr/lib", "/usr/lib64", "/usr/local/lib", "/lib", "/lib64", "/usr/share/zoneinfo")
    return [*sorted(own), *system, "/etc/ld.so.cache", "/etc/localtime"]
