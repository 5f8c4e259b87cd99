"""The filter of system calls for sandboxed programs."""

import errno
import functools
import tempfile
from collections.abc import Iterator

from .program import SandboxError

# Enough for one process with threads, memory, time, and the files that the other layers let it open. Everything else
# fails with EPERM: sockets, new processes, signals to other processes, tracing, mounts, keys, file modes and owners,
# new folders, devices.
_ALLOWED = """
    read readv pread64 preadv preadv2 write writev pwrite64 pwritev pwritev2 close lseek
    access faccessat faccessat2 stat lstat fstat newfstatat statx statfs fstatfs readlink readlinkat
    getcwd chdir getdents getdents64 unlink unlinkat rename renameat ftruncate dup dup2 dup3
    pipe pipe2 poll ppoll select pselect6 epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait eventfd2 recvfrom
    mmap mprotect munmap mremap madvise brk membarrier
    futex set_robust_list get_robust_list rseq set_tid_address arch_prctl sched_yield sched_getaffinity
    rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending sigaltstack restart_syscall exit exit_group execve
    wait4 getpid getppid gettid getuid geteuid getgid getegid getresuid getresgid getgroups getpgrp getpgid getsid
    getrlimit getrusage times sysinfo uname getrandom getcpu
    time gettimeofday clock_gettime clock_getres clock_nanosleep nanosleep alarm getitimer setitimer
""".split()

# Threads share their descriptors, so the limit on descriptors applies to all of them together
_CLONE_SHARED_THREAD = 0x00010000 | 0x00000800 | 0x00000400 | 0x00000200 | 0x00000100
_CLONE_NEW_NAMESPACES = 0x7E020000 | 0x00000080
_ACCESS_MODE, _O_TRUNC = 0b11, 0x200
_CLOSE_RANGE_CLOEXEC, _RLIMIT_STACK = 4, 3
_RENAME_WHITEOUT = 4
NOT_EXECUTABLE = 0o111  # in the mask of the modes of new files: no program executes what it writes
_AF_UNIX, _SOCK_STREAM, _SOCK_TYPE_MASK = 1, 1, 0xF
_TERMINAL_AND_DESCRIPTOR_IOCTLS = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)  # TCGETS TIOCGWINSZ FION* FIO*CLEX
_DESCRIPTOR_COMMANDS = (0, 1, 2, 3, 4, 1030)  # F_DUPFD F_GETFD F_SETFD F_GETFL F_SETFL F_DUPFD_CLOEXEC
_PR_SET_NAME, _PR_GET_NAME, _PR_SET_VMA = 15, 16, 0x53564D41


@functools.cache
def system_call_filter() -> bytes:
    """The filter as a BPF program for `seccomp(2)` on this machine's architecture."""
    try:
        import pyseccomp
    except (ImportError, RuntimeError) as error:
        raise SandboxError(
            f"No filter for system calls ({error}). Run `pip install 'trl-archer[code]'` and install the system "
            "library libseccomp (Debian, Ubuntu: `apt install libseccomp2`)."
        ) from error

    rules = pyseccomp.SyscallFilter(pyseccomp.ERRNO(errno.EPERM))
    rules.set_attr(pyseccomp.Attr.ACT_BADARCH, pyseccomp.KILL_PROCESS)
    rules.set_attr(pyseccomp.Attr.CTL_OPTIMIZE, 2)  # a binary tree
    for name, arguments in _rules(pyseccomp.Arg, pyseccomp.EQ, pyseccomp.MASKED_EQ):
        number = pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name)
        if number >= 0:  # negative if this architecture has no such call
            rules.add_rule(pyseccomp.ALLOW, number, *arguments)
    # The C library then falls back to clone, whose flags a filter can read
    rules.add_rule(pyseccomp.ERRNO(errno.ENOSYS), "clone3")
    with tempfile.TemporaryFile() as file:
        rules.export_bpf(file)
        file.seek(0)
        return file.read()


def _rules(argument, equal, masked_equal) -> Iterator[tuple[str, list]]:
    for name in _ALLOWED:
        yield name, []
    for name, position in (("open", 1), ("openat", 2)):
        # Landlock requires no right for access mode 3 and, before version 3, none for truncating a readable file
        yield name, [argument(position, masked_equal, _ACCESS_MODE | _O_TRUNC, 0)]
        for mode in (1, 2):
            yield name, [argument(position, masked_equal, _ACCESS_MODE, mode)]
    for flags in (0, _CLOSE_RANGE_CLOEXEC):
        yield "close_range", [argument(2, equal, flags)]
    yield "clone", [argument(0, masked_equal, _CLONE_SHARED_THREAD | _CLONE_NEW_NAMESPACES, _CLONE_SHARED_THREAD)]
    # Reading its own limits, and setting the stack limit. Setting a core limit of 0 would start a crash handler
    yield "prlimit64", [argument(0, equal, 0), argument(2, equal, 0)]
    yield "prlimit64", [argument(0, equal, 0), argument(1, equal, _RLIMIT_STACK)]
    yield "renameat2", [argument(4, masked_equal, _RENAME_WHITEOUT, 0)]  # a whiteout is a device
    yield "umask", [argument(0, masked_equal, NOT_EXECUTABLE, NOT_EXECUTABLE)]
    yield "sendto", [argument(4, equal, 0)]  # to the connected peer, not to an address
    yield "socketpair", [argument(0, equal, _AF_UNIX), argument(1, masked_equal, _SOCK_TYPE_MASK, _SOCK_STREAM)]
    for command in _DESCRIPTOR_COMMANDS:  # F_SETOWN and F_SETSIG could signal any process of this user
        yield "fcntl", [argument(1, equal, command)]
    for request in _TERMINAL_AND_DESCRIPTOR_IOCTLS:
        yield "ioctl", [argument(1, equal, request)]
    for option in (_PR_SET_NAME, _PR_GET_NAME, _PR_SET_VMA):
        yield "prctl", [argument(0, equal, option)]
