"""System calls that Python does not provide."""

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
    """Makes the kernel kill this process when its parent, with process id `parent`, ends."""
    _prctl(_PR_SET_PDEATHSIG, 9)
    if os.getppid() != parent:  # the parent ended before the call took effect
        os._exit(1)


def adopt_orphans() -> None:
    """Makes orphaned descendants children of this process, so it can wait for them."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def forbid_new_privileges() -> None:
    """Prevents programs executed from now on from gaining privileges through their files."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def install_filter(program: bytes) -> None:
    """Filters the system calls of this process from now on, across `exec`, by BPF instructions."""
    code = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: the number of instructions of 8 bytes each, and their address
    head = ctypes.create_string_buffer(struct.pack("@HP", len(program) // 8, ctypes.addressof(code)))
    _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, head)


def drop_capabilities() -> None:
    """Permanently drops root's capabilities. Executing a program as root does not restore them."""
    if os.geteuid() == 0:
        _prctl(_PR_SET_SECUREBITS, _SECBIT_NO_ROOT_LOCKED)
    head = struct.pack("@Ii", _CAPABILITY_VERSION_3, 0)
    _call("capset", head, bytes(24))


def enter_namespaces() -> None:
    """Moves this process into namespaces with no network interface, no IPC object, and a user without rights."""
    user, group = os.geteuid(), os.getegid()
    _call("unshare", _CLONE_NEWUSER | _CLONE_NEWNET | _CLONE_NEWIPC)
    for name, text in (("setgroups", "deny"), ("uid_map", f"65534 {user} 1"), ("gid_map", f"65534 {group} 1")):
        descriptor = os.open(f"/proc/self/{name}", os.O_WRONLY)
        os.write(descriptor, text.encode())
        os.close(descriptor)
