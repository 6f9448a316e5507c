"""Runs one untrusted Python program in isolation. `sandbox` starts it as a separate process.

Only the standard library is imported, and nothing of this package: the process that calls `unshare` must have one
thread, and what it becomes must hold nothing of ours. Reads the program from stdin; `argv` is seconds, memory in
bytes, and the word that is printed when the program came to its end.

Between the program and the machine stand:

* separate namespaces for processes, mounts, network (with no interface up), IPC and host name;
* a root that is an empty memory disk of 16 MB, with the interpreter's folders bound into it read-only;
* a user without privileges: the caller's in a user namespace or, for root, an unused id;
* limits on processor time, memory, number of processes (one) and size of files; the caller enforces the time limit;
* a root that is changed a second time (chroot), for which the kernel refuses it any further user namespace.
"""

from __future__ import annotations

import ctypes
import os
import signal
import struct
import sys
from functools import cache
from pathlib import Path

_NEW_NS, _NEW_UTS, _NEW_IPC, _NEW_USER, _NEW_PID, _NEW_NET = (
    0x00020000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000,
)  # fmt: skip
_NOSUID, _NODEV, _BIND, _REC, _PRIVATE = 2, 4, 4096, 16384, 1 << 18
_ATTR_RDONLY, _ATTR_NOSUID, _ATTR_NODEV = 1, 2, 4
_DETACH = 2
_SET_PDEATHSIG, _SET_NO_NEW_PRIVS = 1, 38
_MOUNT_SETATTR = 442  # on every architecture; Linux 5.12
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_DISK_BYTES = 16 << 20
_SYSTEM = ("/usr", "/lib", "/lib64", "/bin")
_UNPRIVILEGED = 1_000_000_000
"""User ids from here on are unused; each program gets a different one."""

_RUN = """
import os, sys
program, word, out = sys.stdin.read(), sys.argv[1], os.dup(1)
nowhere = os.open("/box/output", os.O_RDWR | os.O_CREAT)
for stream in (0, 1, 2):
    os.dup2(nowhere, stream)
exec(compile(program, "<program>", "exec"), {"__name__": "__main__"})
os.write(out, word.encode())
"""


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def main() -> None:
    """Set everything up, then become the program."""
    seconds, memory, word = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    user = _own_namespaces()
    child = os.fork()  # the new process namespace begins with the child
    if child:
        _, status = os.waitpid(child, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    interpreter = _own_root()
    _limits(seconds, memory)
    if user is not None:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    _check(_libc().prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")
    # Last, since the kernel forgets it where the user changes: we end with the process that keeps the clock.
    _check(_libc().prctl(_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")
    os.execve(interpreter, [interpreter, "-I", "-S", "-c", _RUN, word], {"PATH": "/usr/bin:/bin"})  # noqa: S606  # no shell is wanted


def _own_namespaces() -> int | None:
    """Leave the caller's namespaces; returns the user to become, or None to stay who we are."""
    flags = _NEW_NS | _NEW_UTS | _NEW_IPC | _NEW_PID | _NEW_NET
    uid, gid = os.getuid(), os.getgid()
    if uid == 0:
        _check(_libc().unshare(flags), "unshare")
        return _UNPRIVILEGED + os.getpid()
    _check(_libc().unshare(flags | _NEW_USER), "unshare")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    return None


def _own_root() -> str:
    """Enter an empty root that holds the interpreter alone, twice over; returns the interpreter's path in it."""
    _mount(None, "/", None, _REC | _PRIVATE)
    outer = Path("/tmp")  # noqa: S108  # any folder serves as a mount point; outside the namespace it does not change
    _mount("tmpfs", str(outer), "tmpfs", _NOSUID | _NODEV, f"size={_DISK_BYTES},mode=755")
    root = outer / "root"
    root.mkdir()
    interpreter: str = os.path.realpath(sys._base_executable)  # type: ignore[attr-defined]  # noqa: SLF001  # what a virtual environment stands on
    for folder in dict.fromkeys([*_SYSTEM, sys.base_prefix, sys.base_exec_prefix, str(Path(interpreter).parent)]):
        _show(Path(folder), root)
    (root / "box").mkdir(mode=0o777)
    (root / "box").chmod(0o777)
    old = outer / "old"
    old.mkdir()
    _check(_libc().syscall(_PIVOT_ROOT[os.uname().machine], str(outer).encode(), str(old).encode()), "pivot_root")
    os.chdir("/")
    _check(_libc().umount2(b"/old", _DETACH), "umount")
    os.chroot("/root")
    os.chdir("/box")
    return interpreter


def _show(folder: Path, root: Path) -> None:
    """Bind a folder into the new root, read-only; a link is made again."""
    inside = root / folder.relative_to("/")
    if not folder.exists() or inside.exists():
        return
    inside.parent.mkdir(parents=True, exist_ok=True)
    if folder.is_symlink():
        inside.symlink_to(folder.readlink())
        return
    inside.mkdir()
    _mount(str(folder), str(inside), None, _BIND | _REC)
    added = struct.pack("QQQQ", _ATTR_RDONLY | _ATTR_NOSUID | _ATTR_NODEV, 0, 0, 0)  # struct mount_attr
    here, below = -100, 0x8000  # AT_FDCWD, AT_RECURSIVE: mounts inside the folder become read-only too
    done = _libc().syscall(_MOUNT_SETATTR, here, str(inside).encode(), below, added, len(added))
    _check(done, f"mount_setattr {folder}")


def _limits(seconds: int, memory: int) -> None:
    import resource  # here, since sandbox imports this file on every system

    limits = {
        resource.RLIMIT_CPU: seconds,
        resource.RLIMIT_AS: memory,
        resource.RLIMIT_DATA: memory,
        resource.RLIMIT_FSIZE: _DISK_BYTES,
        resource.RLIMIT_NOFILE: 64,
        resource.RLIMIT_NPROC: 1,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
    }
    for limit, value in limits.items():
        resource.setrlimit(limit, (value, value))


def _mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    encoded = [None if text is None else text.encode() for text in (source, target, kind)]
    _check(_libc().mount(*encoded, ctypes.c_ulong(flags), None if data is None else data.encode()), f"mount {target}")


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        sys.stderr.write(f"{what}: {os.strerror(number)}\n")
        os._exit(SETUP_FAILED)


SETUP_FAILED = 125

if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        os._exit(SETUP_FAILED)
