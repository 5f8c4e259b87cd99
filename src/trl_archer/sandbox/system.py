"""The kernel's calls that Python does not offer."""

import ctypes
import functools
import os
import struct

_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_SECUREBITS, _PR_SET_NO_NEW_PRIVS = 1, 22, 28, 38
_PR_SET_CHILD_SUBREAPER = 36
_SECCOMP_MODE_FILTER = 2
_SECBIT_NO_ROOT_LOCKED = 0b11
_CAPABILITY_VERSION_3 = 0x20080522
_CLONE_NEWIPC, _CLONE_NEWUSER, _CLONE_NEWNET = 0x08000000, 0x10000000, 0x40000000


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: object) -> None:
    if getattr(_libc(), name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def _prctl(option: int, value: object, third: object = 0) -> None:
    _call("prctl", option, ctypes.c_ulong(value) if isinstance(value, int) else value, third, 0, 0)


def end_with(parent: int) -> None:
    """Has the kernel kill this process when its parent, process id `parent`, ends."""
    _prctl(_PR_SET_PDEATHSIG, 9)
    if os.getppid() != parent:  # it ended before this took hold
        os._exit(1)


def adopt_orphans() -> None:
    """Makes descendants whose parents have ended children of this process, so that it can wait for their end."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def forbid_new_privileges() -> None:
    """No program that is executed from now on gains privileges from its file."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def install_filter(program: bytes) -> None:
    """
    Filters this process's system calls from now on, across `exec`.

    Args:
        program (`bytes`): BPF instructions.
    """
    code = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: the number of instructions, which have 8 bytes each, and where they lie
    head = ctypes.create_string_buffer(struct.pack("@HP", len(program) // 8, ctypes.addressof(code)))
    _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, head)


def drop_capabilities() -> None:
    """Takes root's capabilities away, for good: executing a program as root gives none back."""
    if os.geteuid() == 0:
        _prctl(_PR_SET_SECUREBITS, _SECBIT_NO_ROOT_LOCKED)
    head = struct.pack("@Ii", _CAPABILITY_VERSION_3, 0)
    _call("capset", head, bytes(24))


def enter_namespaces() -> None:
    """Moves this process into a network without interfaces, an empty set of IPC objects, and a user without rights."""
    user, group = os.geteuid(), os.getegid()
    _call("unshare", _CLONE_NEWUSER | _CLONE_NEWNET | _CLONE_NEWIPC)
    for name, text in (("setgroups", "deny"), ("uid_map", f"65534 {user} 1"), ("gid_map", f"65534 {group} 1")):
        descriptor = os.open(f"/proc/self/{name}", os.O_WRONLY)
        os.write(descriptor, text.encode())
        os.close(descriptor)
