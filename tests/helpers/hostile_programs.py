"""Programs that try to break out of the sandbox, to exhaust the machine, or to confuse the runner.

A program prints a line that starts with `could` for each forbidden thing that it managed to do, and `tried` at the end.
`OUTSIDE` and `WORKER` stand for a folder outside the sandbox and the process of the runner.
"""

import platform
from typing import NamedTuple

import pyseccomp

ENDED, FAILED, TIMEOUT, OUTPUT = "ended", "failed", "timeout", "output"
_X86 = platform.machine() == "x86_64"


class Hostile(NamedTuple):
    """
    A program and its required behavior.

    Args:
        name (`str`): What it attempts.
        source (`str`): Its text.
        statuses (`tuple[str, ...]`): Allowed statuses.
        stdout (`str`, *optional*): Exactly what it prints. Anything if `None`.
        stdin, function, arguments: See [`~trl_archer.sandbox.Program`].
        value (`str`, *optional*): Exactly what its function returns. Anything if `None`.
        brief (`bool`): Whether it only ends at the wall limit. It is then run with a short limit.
    """

    name: str
    source: str
    statuses: tuple[str, ...] = (ENDED,)
    stdout: str | None = "tried\n"
    stdin: str = ""
    function: str | None = None
    arguments: str = "[]"
    value: str | None = None
    brief: bool = False


_TOOLS = """
import ctypes, errno, mmap, os, resource, sys, threading, time
outside, worker = OUTSIDE, WORKER
canary = outside + "/canary"
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]

def attempt(what, action, *arguments):
    try:
        action(*arguments)
    except (OSError, ValueError):
        return
    print("could", what)

def call(number, *arguments):
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(number), *(ctypes.c_long(a) if isinstance(a, int) else a for a in arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return result

def machine_code(text):
    page = libc.mmap(None, 8192, 7, 0x22, -1, 0)
    ctypes.memmove(page, bytes.fromhex(text), len(text) // 2)
    return page
"""


def _attempts(name: str, source: str, **options) -> Hostile:
    return Hostile(name, f"{_TOOLS}{source}\nprint('tried')\n", **options)


def _numbers(names: str) -> dict[str, int]:
    found = {name: pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name) for name in names.split()}
    return {name: number for name, number in found.items() if number >= 0}


# Called with invalid arguments, so the kernel refuses with its own reason unless the filter comes first
_FORBIDDEN = _numbers("""
    acct add_key adjtimex bind bpf capset chmod chown chroot clock_adjtime clock_settime connect copy_file_range
    creat delete_module execveat fadvise64 fallocate fanotify_init fanotify_mark fchdir fchmod fchmodat fchmodat2
    fchown fchownat finit_module flock fsconfig fsetxattr fsmount fsopen fspick ftruncate64 futimesat getxattr
    init_module inotify_add_watch inotify_init inotify_init1 io_cancel io_destroy io_setup io_submit io_uring_enter
    io_uring_register io_uring_setup ioperm iopl ioprio_set kcmp kexec_file_load keyctl kill landlock_add_rule
    landlock_create_ruleset landlock_restrict_self lchown link linkat listen listxattr lookup_dcookie lremovexattr
    lsetxattr mbind memfd_create memfd_secret migrate_pages mincore mkdir mkdirat mknod mknodat mlock mlock2
    mlockall modify_ldt mount mount_setattr move_mount move_pages mq_notify mq_open mq_timedsend mq_unlink msgctl
    msgget msgrcv msgsnd name_to_handle_at nfsservctl open_by_handle_at open_tree openat2 perf_event_open
    pidfd_getfd pidfd_open pidfd_send_signal pivot_root pkey_alloc process_madvise process_mrelease process_vm_readv
    process_vm_writev ptrace quotactl quotactl_fd readahead recvmmsg recvmsg remap_file_pages removexattr
    request_key rmdir rt_sigqueueinfo rt_tgsigqueueinfo sched_setaffinity sched_setattr sched_setparam
    sched_setscheduler seccomp semctl semget semop sendfile sendmmsg sendmsg set_mempolicy setdomainname setfsgid
    setfsuid setgid setgroups sethostname setns setpgid setpriority setregid setresgid setresuid setreuid setrlimit
    settimeofday setuid setxattr setxattrat shmat shmctl shmdt shmget shutdown signalfd signalfd4 socket splice
    swapoff swapon symlink symlinkat sync_file_range syslog tee tgkill timer_create timer_delete timerfd_create
    timerfd_settime tkill truncate umount2 unshare uselib userfaultfd utime utimensat utimes vmsplice waitid
""")
_ARGUMENTS = _numbers("clone clone3 close_range execve fcntl futex ioctl prctl prlimit64 renameat2 sendto socketpair")

FILES = [
    _attempts(
        "read files outside",
        """
for path in (canary, os.path.relpath(canary), "/proc/self/root" + canary, "/proc/self/cwd/../../outside/canary",
             "/etc/passwd", "/etc/shadow", "/etc/hostname", "/root/.bashrc", "/sys/kernel/notes", "/proc/self/environ",
             "/proc/1/environ", "/proc/self/maps", "/proc/cpuinfo", f"/proc/{worker}/environ", f"/proc/{worker}/mem",
             f"/proc/{worker}/fd/0", "/proc/self/mem", "/var/log/dpkg.log", "/dev/mem", "/dev/kmsg"):
    attempt(f"read {path}", lambda: open(path, "rb").read(1))
    attempt(f"read {path} from its folder", lambda: os.open(os.path.basename(path), os.O_RDONLY,
                                                            dir_fd=os.open(os.path.dirname(path) or ".", os.O_PATH)))
for folder in (outside, "/proc", "/proc/self/fd", "/sys", "/home", "/var", "/dev/shm", f"/proc/{worker}/task"):
    attempt(f"list {folder}", os.listdir, folder)
os.chdir("/")
attempt("read from another folder", lambda: open(canary[1:]).read())
""",
    ),
    _attempts(
        "write files outside",
        """
for flags in (os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC, os.O_WRONLY | os.O_TRUNC, os.O_WRONLY | os.O_APPEND):
    attempt(f"open the canary with {flags}", os.open, canary, flags)
for path in (outside + "/new", "/tmp/new", "/dev/shm/new", "/new", "../new", os.path.dirname(os.__file__) + "/new",
             os.path.dirname(os.__file__) + "/site-packages/new", "/usr/lib/new", "/proc/self/oom_score_adj",
             "/proc/self/comm", "/proc/self/uid_map", f"/proc/{worker}/oom_score_adj"):
    attempt(f"write {path}", lambda: open(path, "w"))
    attempt(f"make {path}", os.open, path, os.O_CREAT | os.O_EXCL, 0o777)
    attempt(f"make a file without a name for {path}", os.open, os.path.dirname(path), os.O_TMPFILE | os.O_RDWR)
for path in (os.__file__, threading.__file__, sys.executable, canary):
    attempt(f"write {path}", lambda: open(path, "ab"))
    attempt(f"change the size of {path}", lambda: os.truncate(path, os.path.getsize(path)))
attempt("write a raw disk", lambda: open("/dev/vda", "r+b"))
""",
    ),
    _attempts(
        # Access mode 3 requires no right from Landlock, opens devices with all side effects, and before version 3 of
        # Landlock can truncate any file; before that version, so can opening for reading
        "open files in access mode 3",
        """
for path in (canary, "program.py", "/dev/ptmx", "/dev/tty", "/dev/null", "/dev/urandom", sys.executable):
    for extra in (0, os.O_NOCTTY | os.O_NONBLOCK, os.O_CREAT):
        attempt(f"open {path} with {3 | extra}", os.open, path, 3 | extra)
for path in (canary, "program.py"):
    attempt(f"empty {path}", os.open, path, 3 | os.O_TRUNC)
    attempt(f"empty {path} by reading it", os.open, path, os.O_RDONLY | os.O_TRUNC)
""",
    ),
    _attempts(
        "change modes, owners, times and attributes",
        """
own = os.open("own", os.O_CREAT | os.O_RDWR)
for path in (canary, outside, "program.py", ".", own, os.open(canary, os.O_PATH) if os.path.exists(canary) else own):
    attempt(f"change the mode of {path}", os.chmod, path, 0o777)
    attempt(f"change the owner of {path}", os.chown, path, 1, 1)
    attempt(f"change the owner of {path} to its own", os.chown, path, os.getuid(), os.getgid())
    attempt(f"change the times of {path}", os.utime, path, (1, 1))
    attempt(f"touch {path}", os.utime, path)
    attempt(f"set an attribute of {path}", os.setxattr, path, "user.mark", b"1")
""",
    ),
    _attempts(
        "change names and make links",
        """
open("own", "w").close()
for path in (canary, outside, "/tmp", "program.py", "."):
    attempt(f"link {path}", os.link, path, "link")
    attempt(f"link to {path}", os.symlink, path, "symlink")
attempt("link outside", os.link, "own", outside + "/link")
attempt("link to it outside", os.symlink, "own", outside + "/link")
for source, target in ((canary, "taken"), ("own", outside + "/own"), ("own", canary), (canary, canary + "2"),
                       (outside, "taken"), (os.getcwd(), os.getcwd() + "2"), (".", "../other"), ("..", "up"),
                       ("own", "../own")):
    attempt(f"rename {source} to {target}", os.rename, source, target)
    attempt(f"replace {target} by {source}", os.replace, source, target)
for path in (canary, outside + "/tool", "../../outside/canary"):
    attempt(f"remove {path}", os.unlink, path)
for path in (outside, ".", os.getcwd(), "/tmp"):
    attempt(f"remove {path}", os.rmdir, path)
""",
    ),
    _attempts(
        "make special files",
        """
for path in ("made", outside + "/made", "/tmp/made"):
    attempt(f"make a folder {path}", os.mkdir, path)
    attempt(f"make folders {path}", os.makedirs, path + "/deep/deep")
    attempt(f"make a pipe {path}", os.mkfifo, path)
    for kind in (0o100000, 0o010000, 0o020000, 0o060000, 0o140000):
        attempt(f"make a node {path}", os.mknod, path, kind | 0o600, os.makedev(1, 3))
    attempt(f"make a link {path}", os.symlink, "/", path)
open("own", "w").close()
attempt("leave a device behind", call, RENAMEAT2, -100, b"own", -100, b"moved", 4)
""".replace("RENAMEAT2", str(_ARGUMENTS["renameat2"])),
    ),
    _attempts(
        "find an open descriptor",
        """
for descriptor in range(4096):
    try:
        found = os.fstat(descriptor)
    except OSError:
        continue
    if descriptor > 3:
        print("could use descriptor", descriptor, found)
for descriptor in range(4):
    attempt(f"seal descriptor {descriptor}", call, FCNTL, descriptor, 1033, 15)
""".replace("FCNTL", str(_ARGUMENTS["fcntl"])),
    ),
    _attempts(
        "use devices",
        """
for name in ("mem", "kmem", "port", "kmsg", "tty", "tty0", "console", "ptmx", "pts/0", "fuse", "kvm", "loop-control",
             "vda", "sda", "net/tun", "vhost-net", "userfaultfd", "rtc0", "hpet", "input/event0", "nvidiactl",
             "dri/card0", "shm/made", "mqueue/made", "full", "random", "log"):
    for flags in (os.O_RDONLY, os.O_RDWR, os.O_WRONLY | os.O_CREAT):
        attempt(f"open {name}", os.open, "/dev/" + name, flags)
attempt("open a terminal", os.openpty)
""",
    ),
    _attempts(
        "read what packages and users have installed",
        """
import glob
library = os.path.dirname(os.__file__)
for folder in (library + "/site-packages", "/usr/local/lib/python3*/dist-packages", "/home/*", "/root", "/opt"):
    for path in (*glob.glob(folder + "/*"), *glob.glob(folder + "/*/*")):  # Landlock shows names
        attempt(f"read {path}", lambda: open(path, "rb").read(1))
""",
    ),
    Hostile(
        "leave files that cannot be opened, and odd names",
        """
import os
os.umask(0o777)
os.unlink("program.py")
for name in (b"program.py", b"call", b"\\xff\\xfe", b"\\xed\\xa0\\x80", b"-rf", b"a\\nb", b"*", b"n" * 255, b"..."):
    os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0))
print("tried")
""",
    ),
    Hostile(
        "leave files that a later program or interpreter would load",
        """
for name in ("sitecustomize.py", "usercustomize.py", "json.py", "os.py", "encodings.py", "python311.zip", "pyvenv.cfg",
             "python._pth", "__init__.py", "ld.so.preload", "libc.so.6", "call", ".pythonrc"):
    with open(name, "w") as file:
        file.write("print('could be loaded')")
print("tried")
""",
    ),
]

KERNEL = [
    _attempts(
        "make system calls unknown to the filter",
        f"""
for name, number in {_FORBIDDEN}.items():
    try:
        call(number, *6 * [-1])
        print("could call", name)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOSYS):
            print("could call", name, "with", errno.errorcode[error.errno])
""",
    ),
    _attempts(
        "start processes",
        f"""
import multiprocessing, subprocess
attempt("fork", lambda: os.fork() or os._exit(0))
attempt("open a terminal for a fork", lambda: os.forkpty()[0] or os._exit(0))
attempt("spawn", lambda: os.waitpid(os.posix_spawn(sys.executable, ["python", "-c", ""], {{}}), 0))
attempt("run a program", lambda: subprocess.run([sys.executable, "-c", ""]))
attempt("run a shell", lambda: subprocess.run("true", shell=True, check=True))
attempt("use a pool", lambda: multiprocessing.get_context("spawn").Process(target=print).start())
attempt("use a pipe to a shell", lambda: os.popen("true"))
os.system("echo touched > " + canary)
os.system("echo touched > made")
if os.path.exists("made"):
    print("could use a shell")
for flags in (17, 0x4111, 0x100 | 17, 0x10000000 | 17, 0x20000 | 17, 0x8000 | 17):
    attempt(f"clone with {{flags:#x}}", call, {_ARGUMENTS["clone"]}, flags, 0, 0, 0, 0)
arguments = ctypes.create_string_buffer((17).to_bytes(40, "little")[::-1] + bytes(48), 88)
attempt("clone3", call, {_ARGUMENTS["clone3"]}, arguments, 88)
""",
    ),
    _attempts(
        "start threads that share less, so each has limits of its own",
        f"""
def refused_by_filter(what, *arguments):
    try:
        call(*arguments)
        print("could", what)
    except OSError as error:
        if error.errno != errno.EPERM:
            print("could", what, "with", errno.errorcode[error.errno])

# The kernel itself refuses CLONE_PIDFD with CLONE_DETACHED, so no such thread starts
refused_by_filter("have descriptors of its own", {_ARGUMENTS["clone"]}, 0x401000 | 0x10B00, 0, 0, 0, 0)
refused_by_filter("have a folder of its own", {_ARGUMENTS["clone"]}, 0x401000 | 0x10D00, 0, 0, 0, 0)
for flags in (2, 6):
    refused_by_filter("split off its descriptors", {_ARGUMENTS["close_range"]}, 4000, 4000, flags)
""",
    ),
    _attempts(
        "execute something else",
        """

with open("script", "w", opener=lambda path, flags: os.open(path, flags, 0o777)) as script:
    script.write("#!/bin/sh\\necho could execute a script\\n")
for path in ("/bin/sh", "/usr/bin/env", "/bin/true", "/bin/mount", "/usr/bin/sudo", "/bin/su", "/usr/bin/bwrap",
             outside + "/tool", "script", "./script"):
    attempt(f"execute {path}", os.execv, path, [path, "-c", "echo could execute"])
    attempt(f"execute {path} as a descriptor", lambda: os.execve(os.open(path, os.O_RDONLY), [path], {}))
""",
    ),
    Hostile(
        "execute the interpreter again, without more rights",
        """
import sys, os
os.execv(sys.executable, [sys.executable, "-c", '''
import os, sys
def attempt(what, action, *arguments):
    try:
        action(*arguments)
    except OSError:
        return
    print("could", what)
attempt("fork", os.fork)
attempt("change a mode", os.chmod, "program.py", 0o777)
attempt("read outside", open, OUTSIDE + "/canary")
attempt("write outside", open, OUTSIDE + "/canary", "a")
attempt("use a socket", lambda: __import__("socket").socket())
for descriptor in range(4, 100):
    attempt("use a descriptor", os.fstat, descriptor)
import resource
print(resource.getrlimit(resource.RLIMIT_AS)[1] // 2**20, resource.getrlimit(resource.RLIMIT_CPU)[1])
print("tried")
'''.replace("OUTSIDE", repr(OUTSIDE))])
""",
        stdout="512 3\ntried\n",
    ),
    Hostile(
        "execute its own output",
        """
import os, struct
text = b"could execute a file in memory\\n"
code = bytes.fromhex("b801000000bf0100000048be") + struct.pack("<Q", 0x400078 + 38) + b"\\xba"
code += struct.pack("<I", len(text)) + bytes.fromhex("0f05b83c00000031ff0f05")
code = code.ljust(38, b"\\x90") + text
size = 120 + len(code)
elf = b"\\x7fELF\\2\\1\\1" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0x400078, 64, 0, 0, 64, 56, 1, 0, 0, 0)
elf += struct.pack("<IIQQQQQQ", 1, 5, 0, 0x400000, 0x400000, size, size, 4096) + code
with open("own", "wb", opener=lambda path, flags: os.open(path, flags, 0o777)) as file:
    file.write(elf)
for descriptor in range(4):
    os.pwrite(descriptor, elf, 0)
    os.ftruncate(descriptor, len(elf))
    for path in (f"/proc/self/fd/{descriptor}", f"/dev/fd/{descriptor}", descriptor):
        try:
            os.execve(path, ["x"], {})
        except OSError:
            pass
os.ftruncate(1, 0)
os.lseek(1, 0, 0)
print("tried")
""",
    ),
    Hostile(
        "execute a shell through the loader",
        """
import glob, os
for loader in glob.glob("/lib64/ld-*.so*") + glob.glob("/lib/ld-*.so*"):
    print("tried", flush=True)
    os.execv(loader, [loader, "/bin/sh", "-c", "echo could use a shell"])
""",
        (FAILED,),
    ),
    Hostile(
        "execute itself forever",
        "import os, sys\nos.execv(sys.executable, [sys.executable, 'program.py'])",
        (TIMEOUT,),
        stdout="",
        brief=True,
    ),
    _attempts(
        "use the network",
        """
import socket
for family in range(50):
    for kind in (1, 2, 3, 5):
        attempt(f"open a socket {family} {kind}", socket.socket, family, kind)
for family, kind in ((1, 2), (1, 5), (2, 1), (16, 3)):
    attempt(f"open a pair {family} {kind}", socket.socketpair, family, kind)
attempt("connect", socket.create_connection, ("127.0.0.1", 80), 0.1)
attempt("listen", socket.create_server, ("127.0.0.1", 0))
attempt("resolve a name", socket.getaddrinfo, "example.com", 80)
attempt("load a page", lambda: __import__("urllib.request").request.urlopen("http://127.0.0.1/", timeout=0.1))
left, right = socket.socketpair()
for address in ("/run/systemd/notify", b"\\0hidden"):
    try:
        left.sendto(b"x", address)
        print("could send to an address")
    except OSError as error:
        if error.errno != errno.EPERM:
            print("could try to send to an address", error)
attempt("send a descriptor", socket.send_fds, left, [b"x"], [0])
attempt("receive a descriptor", socket.recv_fds, right, 1, 1)
attempt("bind", left.bind, "made")
attempt("connect to a socket", left.connect, "/run/systemd/private")
""",
    ),
    _attempts(
        "signal other processes",
        f"""
import fcntl, signal
for process in (worker, os.getppid(), 1, 0, -1, os.getpid()):
    for number in (0, signal.SIGCONT):
        attempt(f"signal {{process}}", os.kill, process, number)
    attempt(f"signal the group {{process}}", os.killpg, abs(process), 0)
    attempt(f"open {{process}}", os.pidfd_open, abs(process))
    if process not in (0, os.getpid()):
        attempt(f"see the limits of {{process}}", resource.prlimit, abs(process), resource.RLIMIT_CPU)
read, write = os.pipe()
commands = {{8: worker, 10: signal.SIGCONT, 15: 0, 1024: 1, 1026: 0x80000001, 1031: 2**20, 6: 0, 37: 0}}
for command, argument in commands.items():
    for high in (0, 2**32):
        attempt(f"use command {{command}}", call, {_ARGUMENTS["fcntl"]}, read, high + command, argument)
process = ctypes.byref(ctypes.c_int(worker))
for request in (0x8901, 0x8902, 0x5452, 0x5412, 0x5410, 0x540E, 0x5423, 0x40086602, 0x40049409, 0xC0045877, 1, 0x2401):
    for descriptor in (0, 1, read):
        for high in (0, 2**32):
            attempt(f"use request {{request}}", call, {_ARGUMENTS["ioctl"]}, descriptor, high + request, process)
""",
    ),
    _attempts(
        "raise limits, or lower the limit that keeps crash handlers from starting",
        """
for name in ("AS", "CPU", "FSIZE", "NOFILE", "CORE"):  # the stack is a part of the address space
    kind = getattr(resource, "RLIMIT_" + name)
    soft, hard = resource.getrlimit(kind)
    attempt(f"raise {name}", resource.setrlimit, kind, (hard + 1, hard + 1))
    attempt(f"remove {name}", resource.setrlimit, kind, (-1, -1))
attempt("have a crash handler started", resource.setrlimit, resource.RLIMIT_CORE, (0, 0))
attempt("have a crash handler started after all", resource.setrlimit, resource.RLIMIT_CORE, (0, 1))
attempt("be nicer to itself", os.nice, -1)
attempt("choose its cores", os.sched_setaffinity, 0, {0})
attempt("outrank others", os.sched_setscheduler, 0, os.SCHED_FIFO, os.sched_param(1))
""",
    ),
    _attempts(
        "change the identity of the process",
        f"""
for name in ("setuid", "setgid", "seteuid", "setegid"):
    attempt(name, getattr(os, name), 0)
    attempt(f"{{name}} to itself", getattr(os, name), os.getuid())
attempt("change groups", os.setgroups, [])
attempt("leave its session", os.setsid)
attempt("change its root", os.chroot, ".")
for option in (1, 3, 4, 8, 22, 23, 24, 28, 31, 35, 36, 38, 41, 47, 57, 59, 0x59616D61):
    attempt(f"use process option {{option}}", call, {_ARGUMENTS["prctl"]}, option, 0, 0, 0, 0)
""",
    ),
    _attempts(
        "share memory with others",
        """
from multiprocessing import shared_memory
attempt("share memory", shared_memory.SharedMemory, "made", True, 4096)
attempt("make a memory file", os.memfd_create, "made")
attempt("make a file in memory", os.open, "/dev/shm/made", os.O_CREAT | os.O_RDWR)
for name in ("shm_open", "sem_open", "mq_open"):
    result = getattr(libc, name)(b"/made", os.O_CREAT | os.O_RDWR, 0o600, None)
    if result not in (-1, 0):
        print("could", name)
for name in ("shmget", "semget", "msgget"):
    if getattr(libc, name)(0x1234, 1, 0o1600) != -1:
        print("could", name)
""",
    ),
]

if _X86:
    KERNEL += [
        Hostile(
            "call the kernel as a 32-bit program",
            _TOOLS
            + """
print("tried", flush=True)
ctypes.CFUNCTYPE(ctypes.c_int)(machine_code("53b814000000cd805bc3"))()
print("could")
""",
            (FAILED,),
        ),
        Hostile(
            "call the kernel as an x32 program",
            _TOOLS + "print('tried', flush=True)\ncall(0x40000000 + 39)\nprint('could')",
            (FAILED,),
        ),
    ]

BOMBS = [
    _attempts("fork for ever", "for _ in range(1000):\n    attempt('fork', lambda: os.fork() or os._exit(0))"),
    Hostile(
        "start Python threads endlessly",
        """
import threading, time
threading.stack_size(2**15)
try:
    while True:
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
except RuntimeError:
    pass
time.sleep(60)
print("could keep them")
""",
        (FAILED, OUTPUT, TIMEOUT),
        stdout="",
        brief=True,
    ),
    Hostile("fill memory with objects", "a = [0]\nwhile True:\n    a += a", (FAILED,), stdout=""),
    Hostile("ask for more memory than there is", "bytearray(2**42)", (FAILED,), stdout=""),
    _attempts(
        "fill memory with maps",
        """
mapped = 0
for protection, flags in ((3, 0x22), (3, 0x21), (0, 0x22), (3, 0x4022)):
    while libc.mmap(None, 2**22, protection, flags, -1, 0) != 2**64 - 1:
        mapped += 4
if mapped > 512:
    print("could map", mapped)
""",
    ),
    Hostile(
        "fill memory and hold on to it",
        "import time\nheld = b'x' * (100 * 2**20)\nprint('tried', flush=True)\ntime.sleep(60)",
        (TIMEOUT,),
        brief=True,
    ),
    _attempts(
        "fill the disk with deleted files",
        """
written, limit = 0, 32 * 2 + 512  # only open descriptors and maps can keep them alive
def write():
    global written
    file = os.open("file", os.O_CREAT | os.O_RDWR)
    os.unlink("file")
    os.ftruncate(file, 2**21)  # as good as written: what matters is that it stays allocated
    written += 2
    return file
held = []
try:
    while written < 2 * limit:
        file = write()
        if libc.mmap(None, 2**21, 3, 1, file, 0) == 2**64 - 1:
            raise OSError
        os.close(file)
except OSError:
    pass
try:
    while written < 2 * limit:
        held.append(write())
except OSError:
    pass
if written > limit:
    print("could write", written)
""",
        statuses=(ENDED, OUTPUT),
        stdout=None,
    ),
    _attempts(
        "hold deleted files by a map of one page each",
        """
held = 0
try:
    for _ in range(200):
        file = os.open("file", os.O_CREAT | os.O_RDWR)
        os.unlink("file")
        held += os.write(file, bytes(2**20)) // 2**20
        assert libc.mmap(None, 4096, 3, 1, file, 0) != 2**64 - 1
        os.close(file)
except OSError as error:
    print(errno.errorcode[error.errno])
time.sleep(0.3)
if held > 16:
    print("could hold", held)
""",
        statuses=(ENDED, OUTPUT),
        stdout=None,
    ),
    _attempts(
        "hold open files without a name",
        """
held = []
try:
    while len(held) < 60:
        if len(held) % 2:
            held.append(os.open(".", os.O_TMPFILE | os.O_RDWR))
        else:
            held.append(os.open("file", os.O_CREAT | os.O_RDWR))
            os.unlink("file")
        for _ in range(2):
            os.write(held[-1], bytes(2**20))
except OSError:
    pass
time.sleep(0.3)
if len(held) * 2 > 16 + 32:
    print("could hold", 2 * len(held))
""",
        statuses=(ENDED, OUTPUT),
        stdout=None,
    ),
    Hostile(
        "fill the disk with files",
        """
import os, time
for number in range(64):
    with open(f"file{number}", "wb") as file:
        file.write(bytes(2**20))
time.sleep(60)
print("could keep them")
""",
        (OUTPUT,),
        stdout="",
    ),
    _attempts(
        "write one large file",
        """
file = os.open("file", os.O_CREAT | os.O_RDWR)
attempt("make a sparse file", os.ftruncate, file, 2**40)
attempt("write far out", os.pwrite, file, b"x", 2**40)
attempt("reserve space", os.posix_fallocate, file, 0, 2**30)
if os.write(file, bytes(2**22)) > 2**21:
    print("could write it at once")
attempt("write on", os.write, file, b"x")
""",
    ),
    Hostile(
        "make files endlessly",
        "import os, itertools\nfor n in itertools.count():\n    os.close(os.open(f'file{n}', os.O_CREAT))",
        (OUTPUT,),
        stdout="",
    ),
    Hostile("print without end", "while True:\n    print('x' * 10**5)", (OUTPUT,), stdout=None),
    Hostile(
        "print endlessly and ignore errors",
        """
import os
while True:
    try:
        os.write(1, b"x" * 10**5)
    except OSError:
        pass
""",
        (OUTPUT, TIMEOUT),
        stdout=None,
        brief=True,
    ),
    Hostile("make its output large without printing", "import os\nos.ftruncate(1, 2 * 2**20)", (OUTPUT,), stdout=None),
    _attempts(
        "make its output larger than the file limit",
        """
for descriptor in (0, 1, 2, 3):
    attempt(f"extend {descriptor}", os.ftruncate, descriptor, 2**31)
    attempt(f"write far out in {descriptor}", os.pwrite, descriptor, b"x", 2**31)
""",
    ),
    Hostile(
        "fill standard error",
        "import os\nfor _ in range(10):\n    os.write(2, b'\\xff' * 10**5)\nos._exit(7)",
        (FAILED,),
        stdout="",
    ),
    Hostile("burn time", "while True:\n    pass", (TIMEOUT,), stdout="", brief=True),
    Hostile(
        "burn time and ignore signals",
        """
import signal
for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
    signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))
while True:
    pass
""",
        (TIMEOUT,),
        stdout="",
        brief=True,
    ),
    Hostile("compute without letting go of the interpreter", "9 ** (9 ** 9)", (TIMEOUT,), stdout="", brief=True),
    Hostile("match for ever", "import re\nre.match('(a+)+$', 'a' * 60 + 'b')", (TIMEOUT,), stdout="", brief=True),
    Hostile(
        "sleep after its last output",
        "import threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()\nprint('tried')",
        (TIMEOUT,),
        stdout=None,
        brief=True,
    ),
    Hostile(
        "sleep during shutdown",
        """
import atexit, os, time
class Slow:
    def __del__(self):
        os.write(1, b"tried\\n")
        time.sleep(60)
slow = Slow()
""",
        (TIMEOUT,),
        brief=True,
    ),
    Hostile(
        "end only the main thread",
        _TOOLS
        + f"""
threading.Thread(target=time.sleep, args=(60,)).start()
print("tried", flush=True)
call({_numbers("exit")["exit"]}, 0)
""",
        (TIMEOUT,),
        brief=True,
    ),
]

if _X86:
    BOMBS += [
        Hostile(
            "start threads that need no memory",
            # clone(CLONE_VM | FS | FILES | SIGHAND | THREAD) on one stack; each thread waits in poll forever
            _TOOLS
            + """
page = machine_code("5341544889fb4989f4b838000000bf000d010081cf000200004c89e631d24d31d24d31c00f05"
                    "4885c0740d780748ffcb75d731c0415c5bc3b80700000031ff31f648c7c2ffffffff0f05ebec")
refused = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_long, ctypes.c_long)(page)(2000, page + 8000)
print("tried", flush=True)
time.sleep(0.3)
if not refused:
    print("could keep 2000 threads", flush=True)
os._exit(0)
""",
            (ENDED, OUTPUT, FAILED),
            stdout=None,
        ),
    ]

_DEEP = 10**6
CONFUSION = [
    Hostile("end at once", "import os\nos._exit(0)", stdout=""),
    Hostile("crash", "import ctypes\nctypes.string_at(0)", (FAILED,), stdout=""),
    Hostile("abort", "import os\nos.abort()", (FAILED,), stdout=""),
    Hostile("overflow the stack", "import functools\nf = lambda: f()\nf()", (FAILED,), stdout=""),
    Hostile("overflow the stack of C", "a = []\nfor _ in range(10**5):\n    a = [a]\nprint(a)", (FAILED,), stdout=""),
    Hostile(
        "die by its own alarm",
        "import signal, time\nsignal.alarm(1)\nsignal.setitimer(signal.ITIMER_REAL, 0.05)\ntime.sleep(5)",
        (FAILED,),
        stdout="",
    ),
    Hostile("nest brackets", "(" * _DEEP, (FAILED,), stdout=""),
    Hostile("nest signs", "-" * _DEEP + "1", (FAILED,), stdout=""),
    Hostile("nest attributes", "a" + ".a" * _DEEP, (FAILED,), stdout=""),
    Hostile("nest blocks", "".join(f"{' ' * n}if 1:\n" for n in range(200)), (FAILED,), stdout=""),
    Hostile("have a long line", "#" + "a" * 2**22 + "\nprint('tried')"),
    Hostile("have many lines", "x = 1\n" * 50_000 + "print('tried')\n"),
    Hostile("hold a null character", "print(1)\0", (FAILED,), stdout=""),
    Hostile("hold a lone surrogate", "print('\ud800')", (FAILED,), stdout=""),
    Hostile("declare another encoding", "# -*- coding: utf-16 -*-\nprint('tried')"),
    Hostile("declare an unknown encoding", "# -*- coding: nonsense -*-\nprint('tried')"),
    Hostile("begin with a byte order mark", "\ufeffprint('tried')", (ENDED, FAILED), stdout=None),
    Hostile("print what is not UTF-8", "import os\nos.write(1, b'a\\xff\\xfe\\x80b')", stdout="a\ufffd\ufffd\ufffdb"),
    Hostile("print lone surrogates", "print('\\ud800')", (FAILED,), stdout=""),
    Hostile("close all descriptors", "import os\nos.closerange(0, 1000)\nos._exit(0)", stdout=""),
    Hostile(
        "close the first descriptors one by one",
        """
import contextlib, os
print("tried", flush=True)
for number in range(5):
    with contextlib.suppress(OSError):
        os.close(number)
""",
        (ENDED, FAILED),
    ),
    Hostile(
        "replace descriptors with its files",
        "import os\nf = os.open('file', os.O_CREAT | os.O_RDWR)\nfor n in range(5):\n    os.dup2(f, n)\nprint('lost')",
        stdout="",
    ),
    Hostile(
        "report its start a second time",
        """
import contextlib, os
for number in range(3, 64):
    with contextlib.suppress(OSError):
        os.write(number, b"started")
print("tried")
""",
        value="started",
    ),
    Hostile(
        "return invalid JSON",
        "import os\nos.write(3, b'\\xff\\0[' * 1000)\nprint('tried')",
        value="\ufffd\0[" * 1000,
    ),
    Hostile(
        "write its result twice and shorten it",
        "import os\ndef f():\n    os.write(3, b'123456')\n    os.lseek(3, 0, 0)\n    print('tried')\n    return 7",
        function="f",
        value="723456",
    ),
    Hostile("answer what JSON cannot hold", "f = lambda: {1, 2}", (FAILED,), stdout="", function="f"),
    Hostile(
        "return a value that contains itself",
        "def f():\n    a = []\n    a.append(a)\n    return a",
        (FAILED,),
        stdout="",
        function="f",
    ),
    Hostile(
        "return a deeply nested value",
        "def f():\n    a = []\n    for _ in range(10**6):\n        a = [a]\n    return a",
        (FAILED,),
        stdout="",
        function="f",
    ),
    Hostile("answer without end", "def f():\n    return 'x' * (3 * 2**20)", (OUTPUT, FAILED), stdout="", function="f"),
    Hostile(
        "write a result and exit",
        "import os\ndef f():\n    os.write(3, b'1')\n    os._exit(0)",
        stdout="",
        function="f",
        value="1",
    ),
    Hostile(
        "exit in the constructor",
        "import sys\nclass Solution:\n    def __init__(self):\n        sys.exit(0)",
        stdout="",
        function="f",
    ),
    Hostile("name a function that is built in", "", (FAILED,), stdout="", function="__import__", arguments='["os"]'),
    Hostile("name no function", "", (FAILED,), stdout="", function=""),
    Hostile("name a function of many lines", "f = lambda: 1", (FAILED,), stdout="", function="f\nf"),
    Hostile(
        "get arguments that are not a list", "f = lambda *a: list(a)", (FAILED,), stdout="", function="f", arguments="7"
    ),
    Hostile(
        "get arguments that are not JSON", "f = lambda *a: list(a)", (FAILED,), stdout="", function="f", arguments="[1"
    ),
    Hostile(
        "have a class that lies",
        """
class Meta(type):
    def __instancecheck__(cls, other):
        return True
    def __call__(cls, *arguments):
        raise SystemExit
    def __getattr__(cls, name):
        raise KeyboardInterrupt
class Solution(metaclass=Meta):
    pass
""",
        stdout="",
        function="f",
    ),
    Hostile(
        "replace functions that its caller uses",
        """
import builtins, json, os, sys
json.dumps = json.loads = builtins.open = builtins.exec = builtins.compile = builtins.isinstance = lambda *a, **k: None
sys.modules["json"] = sys.modules["os"] = None
sys._getframe(1).f_globals["_call"] = lambda *a: "forged"
print("tried")
""",
        function="f",
        value="forged",
    ),
    Hostile(
        "take the interpreter apart",
        """
import builtins, sys
sys.modules.clear()
vars(builtins).clear()
sys.stdout = sys.stderr = sys.excepthook = None
""",
        (ENDED, FAILED),
        stdout="",
    ),
    Hostile(
        "fail while failing",
        """
import atexit, sys
class Bad(BaseException):
    def __str__(self):
        raise Bad
    def __del__(self):
        raise ValueError
sys.excepthook = lambda *a: 1 / 0
atexit.register(lambda: 1 / 0)
raise Bad(Bad())
""",
        (FAILED,),
        stdout="",
    ),
    Hostile("fail with a long message", "raise ValueError('x' * 10**6)", (FAILED,), stdout=""),
    Hostile("exit with odd codes", "raise SystemExit(2**40)", (ENDED, FAILED), stdout=""),
    Hostile("pretend to be interrupted", "raise KeyboardInterrupt", (FAILED,), stdout=""),
    Hostile("read much", "import sys\nprint(len(sys.stdin.read()))", stdin="é" * 3 * 2**20, stdout=f"{3 * 2**20}\n"),
    Hostile(
        "write to its input",
        "import os\nos.pwrite(0, b'x' * 100, 0)\nos.ftruncate(0, 50)\nprint('tried')",
        stdin="short",
    ),
    Hostile(
        "remove its own files",
        "import os\nos.unlink('program.py')\ndef f():\n    print('tried')\n    return 1",
        function="f",
        value="1",
    ),
    Hostile(
        "rewrite its own files until the end",
        """
import os, threading
def write():
    while True:
        for name in ("program.py", "call", "left"):
            try:
                file = os.open(name, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
                os.write(file, b"print('could run in its place')")
                os.close(file)
            except OSError:
                pass
for _ in range(4):
    threading.Thread(target=write).start()
""",
        (TIMEOUT,),
        stdout="",
        brief=True,
    ),
    _attempts(
        "look for secrets",
        """
for name in os.environ:
    if name.split("_")[0] not in ("HOME", "TMPDIR", "LANG", "LC", "PWD", "PYTHONPATH", "PYTHONHASHSEED", "OMP",
                                  "OPENBLAS", "MALLOC"):
        print("could see", name)
""",
    ),
]

PROGRAMS = [*FILES, *KERNEL, *BOMBS, *CONFUSION]
