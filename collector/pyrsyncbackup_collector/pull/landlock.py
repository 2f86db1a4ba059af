"""Starts a program that can write below one directory only, and has no sockets: Landlock and seccomp, by system call.

Runs by itself as `python -IS landlock.py WRITABLE READABLE... -- ARGV...`, so that no code runs between fork and exec
in a process with threads. Source: the kernel's userspace-api/landlock and seccomp_filter documents.
"""

import ctypes
import os
import struct
import sys

LANDLOCK_CREATE_RULESET, LANDLOCK_ADD_RULE, LANDLOCK_RESTRICT_SELF = 444, 445, 446
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2

# Access rights of the file system by the ABI that brought them: 13 in ABI 1, then REFER, TRUNCATE, IOCTL_DEV.
EXECUTE, READ_FILE, READ_DIR = 1 << 0, 1 << 2, 1 << 3
RIGHTS_BY_ABI = {1: 13, 2: 14, 3: 15, 4: 15}
FILE_RIGHTS = EXECUTE | 1 << 1 | READ_FILE | 1 << 14 | 1 << 15

# (machine, number of socket(2), audit architecture)
SOCKET = {"x86_64": (41, 0xC000003E), "aarch64": (198, 0xC00000B7)}

libc = ctypes.CDLL(None, use_errno=True)


def call(number: int, *arguments: object) -> int:
    """A system call that must work."""
    result = libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        raise SystemExit(f"landlock: {os.strerror(ctypes.get_errno())}")
    return int(result)


def restrict_files(writable: str, readable: list[str]) -> None:
    """Allow everything below `writable`, reading and executing below `readable`, nothing else."""
    abi = call(LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    everything = (1 << RIGHTS_BY_ABI.get(abi, 16)) - 1
    attributes = struct.pack("=Q", everything)
    ruleset = call(LANDLOCK_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0))
    rules = [(writable, everything)] + [(path, EXECUTE | READ_FILE | READ_DIR) for path in readable]
    for path, rights in rules:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        allowed = rights if os.path.isdir(path) else rights & FILE_RIGHTS  # noqa: PTH112
        rule = struct.pack("=Qi", allowed, fd)
        call(LANDLOCK_ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(1), rule, ctypes.c_uint32(0))
        os.close(fd)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    call(LANDLOCK_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    os.close(ruleset)


def forbid_sockets() -> None:
    """Make socket(2) fail with EACCES; pairs that the program makes of itself still work."""
    number, architecture = SOCKET[os.uname().machine]
    program = b"".join(
        struct.pack("=HBBI", code, yes, no, value)
        for code, yes, no, value in (
            (0x20, 0, 0, 4),  # load the architecture
            (0x15, 1, 0, architecture),  # another one: kill
            (0x06, 0, 0, 0x80000000),
            (0x20, 0, 0, 0),  # load the number of the call
            (0x35, 3, 0, 0x40000000),  # x32 calls: refuse
            (0x15, 2, 0, number),
            (0x15, 1, 0, 425),  # io_uring_setup could make sockets too
            (0x06, 0, 0, 0x7FFF0000),  # allow
            (0x06, 0, 0, 0x00050000 | 13),  # EACCES
        )
    )
    buffer = ctypes.create_string_buffer(program, len(program))
    fprog = struct.pack("=HxxxxxxQ", len(program) // 8, ctypes.addressof(buffer))
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, fprog, 0, 0) != 0:
        raise SystemExit(f"seccomp: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    split = sys.argv.index("--")
    restrict_files(sys.argv[1], sys.argv[2:split])
    forbid_sockets()
    command = sys.argv[split + 1 :]
    os.chdir(sys.argv[1])
    os.execvpe(command[0], command, {"LC_ALL": "C", "PATH": "/usr/local/bin:/usr/bin:/bin"})  # noqa: S606
