"""The kernel's walls around a program, and how a new process puts itself behind them."""

import glob
import importlib.metadata
import os
import shutil
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, get_args

from . import system
from .filter import system_call_filter
from .program import SandboxError

Isolation = Literal["landlock+namespaces", "landlock", "bubblewrap", "unsafe"]
"""
Ways to keep a program away from files and the network. All except `"unsafe"` also filter its system calls, forbid new
privileges and processes, and limit its resources. `"unsafe"` only sets the limits.
"""

SAFE_ISOLATIONS: tuple[Isolation, ...] = tuple(name for name in get_args(Isolation) if name != "unsafe")  # best first

MAX_FILES = 1000  # in a scratch folder
FIRST_FREE_DESCRIPTOR = 5  # 0 to 2 are the standard streams, 3 takes the result, 4 tells that the program starts

_SYSTEM_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache", "/etc/localtime")
_SHARED_DATA = ("/usr/share/zoneinfo",)
_DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom")
_LOADERS = ("/lib64/ld-*.so*", "/lib/ld-*.so*", "/lib/ld-musl-*")


def interpreter() -> str:
    """The base interpreter, outside any virtual environment."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


def package_paths(packages: Sequence[str]) -> list[str]:
    """The folders and modules of installed distributions in site-packages. `ValueError` if one is not installed."""
    paths: set[str] = set()
    for package in packages:
        try:
            distribution = importlib.metadata.distribution(package)
        except importlib.metadata.PackageNotFoundError as error:
            raise ValueError(f"packages contains {package!r}, which is not installed.") from error
        top = {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}
        paths.update(str(distribution.locate_file(name)) for name in top)
    return sorted(path for path in paths if os.path.exists(path))


def _standard_library() -> Path:
    return Path(sysconfig.get_path("stdlib", vars={"installed_base": sys.base_prefix, "base": sys.base_prefix}))


def _readable() -> Iterator[str]:
    """Files and folders that an interpreter needs: the standard library without site-packages, and system libraries."""
    for entry in _standard_library().iterdir():
        if entry.name not in ("site-packages", "dist-packages"):
            yield str(entry)
    yield from glob.glob(f"{sys.base_prefix}/lib/*.so*")
    yield from filter(os.path.exists, (*_SYSTEM_LIBRARIES, *_SHARED_DATA))


class Walls:
    """The barriers between a program and the machine."""

    first_closed_descriptor = FIRST_FREE_DESCRIPTOR  # from this one up they are closed before the command is executed
    has_own_scratch = True  # the scratch folder is a file system that ends with the program and cannot outgrow its size

    def command(self, arguments: Sequence[str]) -> Sequence[str]:
        """The command that runs `arguments` behind the walls."""
        return arguments

    def enter(self) -> None:
        """Irrevocably confines this process and everything it executes."""
        raise NotImplementedError


class Landlock(Walls):
    """
    A Landlock domain, prepared once and entered by many processes, which may write files in the scratch folder only.
    With `namespaces`, they also enter empty network and IPC namespaces and get a file system of their own for that
    folder.
    """

    def __init__(self, scratch: str, packages: Sequence[str], mib: int, namespaces: bool):
        try:
            from landlockpy import AccessFS, LandlockError, Ruleset, Scope
        except ImportError as error:
            raise SandboxError(f"No Landlock ({error}). Run `pip install 'trl-archer[code]'`.") from error
        try:
            rules = Ruleset(scoped=Scope.ABSTRACT_UNIX_SOCKET | Scope.SIGNAL)
        except (LandlockError, OSError) as error:
            raise SandboxError(f"The kernel has no Landlock ({error}).") from error

        read = AccessFS.READ_FILE | AccessFS.READ_DIR
        execute = AccessFS.READ_FILE | AccessFS.EXECUTE
        write = AccessFS.WRITE_FILE | AccessFS.REMOVE_FILE | AccessFS.MAKE_REG | AccessFS.TRUNCATE
        for path in (*_readable(), *packages):
            rules.allow_path(path, read if os.path.isdir(path) else AccessFS.READ_FILE)
        for path in {str(_standard_library()), *(os.path.dirname(package) for package in packages)}:
            rules.allow_path(path, AccessFS.READ_DIR)  # imports list the names in these folders
        for path in (interpreter(), *(path for pattern in _LOADERS for path in glob.glob(pattern))):
            rules.allow_path(path, execute)
        for path in _DEVICES:
            rules.allow_path(path, AccessFS.READ_FILE | AccessFS.WRITE_FILE)
        # The folder around it, because each program gets a new scratch folder. Nobody can write there
        rules.allow_path(os.path.dirname(scratch), read | write)
        self._rules = rules
        self._scratch, self._mib = scratch, mib
        self.has_own_scratch = namespaces
        self._filter = system_call_filter()

    def enter(self) -> None:
        if self.has_own_scratch:
            system.enter_namespaces(self._scratch, self._mib, MAX_FILES)
        system.drop_capabilities()
        self._rules.restrict()
        system.install_filter(self._filter)


class Bubblewrap(Walls):
    """Runs programs with `bwrap`, in namespaces that contain only what an interpreter needs."""

    first_closed_descriptor = FIRST_FREE_DESCRIPTOR + 1

    def __init__(self, scratch: str, packages: Sequence[str], mib: int):
        executable = shutil.which("bwrap")
        if executable is None:
            raise SandboxError("bwrap is not installed (Debian, Ubuntu: `apt install bubblewrap`).")
        self._filter = open(os.memfd_create("filter"), "wb", buffering=0)  # noqa: SIM115 (open as long as this object lives)
        self._filter.write(system_call_filter())
        library = _standard_library()
        hidden = [str(path) for path in library.iterdir() if path.name in ("site-packages", "dist-packages")]
        shown = [str(library), *glob.glob(f"{sys.base_prefix}/lib/*.so*"), interpreter(), *_SHARED_DATA]
        self._command = [
            executable,
            *"--unshare-user --unshare-pid --unshare-net --unshare-ipc --unshare-uts --unshare-cgroup-try".split(),
            *"--uid 65534 --gid 65534 --die-with-parent --new-session --cap-drop ALL".split(),
            *(part for path in (*_SYSTEM_LIBRARIES, *shown) for part in ("--ro-bind-try", path, path)),
            *(part for path in hidden for part in ("--tmpfs", path)),
            *(part for path in packages for part in ("--ro-bind", path, path)),
            *(part for path in hidden for part in ("--remount-ro", path)),
            *(part for path in _DEVICES for part in ("--dev-bind", path, path)),
            *("--size", str(mib * 2**20), "--tmpfs", scratch, "--remount-ro", "/", "--chdir", scratch),
            *("--seccomp", str(FIRST_FREE_DESCRIPTOR), "--"),
        ]

    def command(self, arguments: Sequence[str]) -> Sequence[str]:
        return [*self._command, *arguments]

    def enter(self) -> None:
        """Prepares this process for `bwrap`, which does the rest."""
        self._filter.seek(0)
        os.dup2(self._filter.fileno(), FIRST_FREE_DESCRIPTOR)
        os.set_inheritable(FIRST_FREE_DESCRIPTOR, True)  # dup2 does nothing if both descriptors are the same
        system.forbid_new_privileges()


class Unsafe(Walls):
    """No walls."""

    has_own_scratch = False

    def enter(self) -> None:
        system.forbid_new_privileges()


def prepare(isolation: Isolation, scratch: str, packages: Sequence[str], mib: int) -> Walls:
    """
    Prepares the walls for programs that run one after the other, each with an empty folder `scratch` of `mib` MiB.
    `SandboxError` if this machine lacks something that the isolation needs.
    """
    if isolation == "bubblewrap":
        return Bubblewrap(scratch, packages, mib)
    if isolation == "unsafe":
        return Unsafe()
    return Landlock(scratch, packages, mib, namespaces=isolation == "landlock+namespaces")
