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
_CLONE_NEWIPC, _CLONE_NEWUSER, _CLONE_NEWNET, _CLONE_NEWNS = 0x08000000, 0x10000000, 0x40000000, 0x00020000
_MOUNT_SETATTR, _AT_FDCWD, _AT_RECURSIVE, _MOUNT_ATTR_RDONLY = 442, -100, 0x8000, 1
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 2, 4, 8


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


def enter_namespaces(scratch: str, mib: int, files: int) -> None:
    """
    Moves this process into namespaces with no network interface, no IPC object, and a user without rights. All mounts
    are read-only there, so that reading a file does not change its access time, which a later program could see. The
    folder `scratch` is a new file system in memory that holds `mib` MiB in at most `files` files.
    """
    user, group = os.geteuid(), os.getegid()
    _call("unshare", _CLONE_NEWUSER | _CLONE_NEWNET | _CLONE_NEWIPC | _CLONE_NEWNS)
    for name, text in (("setgroups", "deny"), ("uid_map", f"65534 {user} 1"), ("gid_map", f"65534 {group} 1")):
        descriptor = os.open(f"/proc/self/{name}", os.O_WRONLY)
        os.write(descriptor, text.encode())
        os.close(descriptor)
    attributes = struct.pack("@4Q", _MOUNT_ATTR_RDONLY, 0, 0, 0)
    arguments = (_MOUNT_SETATTR, _AT_FDCWD, b"/", _AT_RECURSIVE, attributes, len(attributes))
    _call("syscall", *(ctypes.c_long(value) if isinstance(value, int) else value for value in arguments))
    options = f"size={mib}m,nr_inodes={files},mode=700".encode()
    _call("mount", b"tmpfs", os.fsencode(scratch), b"tmpfs", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, options)
