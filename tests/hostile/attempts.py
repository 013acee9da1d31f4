"""What a hostile model tries against the machine around it, and in which modes it must fail.

The one table of these attempts: the tests run every row in every mode, and the page about isolation
shows it. Standard library only: it is also used by a program that runs as another user.

A code's ``{names}`` stand for what `server.py` knows when it runs. Nothing here
harms anybody where it is let through: what is set is what was set already.
"""

import errno
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum


class Mode(StrEnum):
    """Who the model is; the value heads its column of the page."""

    OWN_USER = "root, a user per deployment"
    ROOT = "root, model as root"
    VIEW = "not root, private view"
    BARE = "not root, no view"


class Need(StrEnum):
    """What the machine must have for a promise to hold; the value stands on the page."""

    FILES = "Landlock (Linux 5.13)"
    PORTS = "Landlock of Linux 6.7"
    SIGNALS = "Landlock of Linux 6.12"
    CALLS = "seccomp"
    VIEW = "private view"


ALL = tuple(Mode)
SHARED = (Mode.ROOT, Mode.VIEW, Mode.BARE)
SEEN = (Mode.OWN_USER, Mode.ROOT, Mode.VIEW)


@dataclass(frozen=True, slots=True)
class Attempt:
    """``refused`` in these modes; in others nothing is promised.

    ``needs`` says on what it rests, where not on the model's user alone. ``remains``: a code that
    the test's server evaluates afterwards, true if nothing has happened, for what is refused by
    being ignored.
    """

    group: str
    name: str
    code: str
    refused: tuple[Mode, ...] = ALL
    needs: Need | None = None
    remains: str = ""

    @property
    def key(self) -> str:
        return f"{self.group}: {self.name}"


C = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
def call(number, *words):
    words = [ctypes.c_long(word) if isinstance(word, int) else word for word in words]
    result = libc.syscall(ctypes.c_long(number), *words)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
arm = os.uname().machine == "aarch64"
"""
"""``call(number, …)`` is a system call by its number, which raises OSError."""

FILES = {
    "the database": "{home}/havre.sqlite3",
    "a key": "{home}/keys/key.pem",
    "the supervisor's log": "{home}/logs/supervisor.log",
    "the record of a process": "{home}/processes/i-bbbbbbbbbbbb.json",
    "another model's artifact": "{home}/unpacked/" + "b" * 64 + "/score.py",
    "another model's state": "{home}/instances/bbbbbbbbbbbb/state/state.json",
    "a file of the server's user": "{place}/secret",
    "passwords": "/etc/shadow",
    "a file through another process": "/proc/{victim}/root{place}/secret",
    "a file through another's working folder": "/proc/{victim}/cwd/secret",
    "variables of another process": "/proc/{victim}/environ",
    "variables of the supervisor": "/proc/{supervisor}/environ",
    "memory of another model": "/proc/{other}/mem",
    "the kernel's memory": "/proc/kcore",
    "physical memory": "/dev/mem",
    "messages of the kernel": "/dev/kmsg",
}

CLOSED_FILES = """
import os
def may_others(path):
    return os.lstat(path).st_mode & 0o4
found = []
for root in ("/etc", "/opt"):
    for folder, _, names in os.walk(root):
        for name in names:
            path = os.path.join(folder, name)
            if not os.path.islink(path) and not may_others(path):
                try:
                    found.append(open(path, "rb").close() or path)
                except OSError:
                    pass
if not found:
    raise PermissionError("none")
answer = found
"""
ANOTHER_USER = """
import errno, os
try:
    os.setuid(12345)
except OSError as error:
    if error.errno == errno.EINVAL:
        raise PermissionError("there is no such user in its namespace")
    raise
"""
LIMITS = """
import glob
answer = []
for limit in ("memory.max", "cpu.max", "pids.max", "memory.limit_in_bytes", "cpu.cfs_quota_us"):
    for path in glob.glob("/sys/fs/cgroup/**/" + limit, recursive=True):
        try:
            open(path, "r+").close()
            answer.append(path)
        except OSError:
            pass
if not answer:
    raise PermissionError("none")
"""
SOCKET = "import socket; socket.socket(socket.AF_UNIX).connect({path}); answer = 'reached'"
TCP = "import socket; s = socket.socket({kind}); {act}; answer = 'reached'"


def _attempts() -> Iterator[Attempt]:
    yield from _files()
    yield from _processes()
    yield from _sockets_and_ports()
    yield from _kernel()


def _files() -> Iterator[Attempt]:
    group = "read"
    for name, path in FILES.items():
        needs = None if path.startswith(("/dev/", "/proc/kcore")) else Need.FILES
        yield Attempt(group, name, f"answer = open({path!r}, 'rb').read(1).hex()", needs=needs)
    yield Attempt(group, "what /etc and /opt keep from others", CLOSED_FILES, needs=Need.FILES)
    yield Attempt(
        group,
        "the list of instances",
        "import os; os.listdir('{home}/instances')",
        needs=Need.FILES,
    )
    group = "change"
    artifact = "{home}/unpacked/" + "a" * 64
    for name, code in {
        "write its own artifact": f"open('{artifact}/score.py', 'a')",
        "remove its own artifact": f"import os; os.remove('{artifact}/score.py')",
        "write its own specification": "open('{home}/instances/aaaaaaaaaaaa/spec.json', 'a')",
        "write into the server's home": "open('{home}/left', 'w')",
        "write the database": "open('{home}/havre.sqlite3', 'r+b')",
        "link the database into its folder": "import os; os.link('{home}/havre.sqlite3', 'link')",
        "move a file out of the home": "import os; os.rename('{home}/havre.sqlite3', 'moved')",
        "write where the server's user may": "open('{place}/left', 'w')",
        "write a setting of the kernel": "open('/proc/sys/kernel/core_pattern', 'r+')",
        "write a setting of a device": "open('/sys/kernel/mm/ksm/run', 'r+')",
        "write a program": "open('/usr/bin/env', 'r+b')",
        "make a device": "import os, stat; os.mknod('mem', 0o666 | stat.S_IFCHR, 0x101)",
    }.items():
        yield Attempt(group, name, code, needs=Need.FILES)
    for name, path, mode in (
        ("shut the server's home", "{home}", "0o{home_mode}"),
        ("shut its own artifact", f"{artifact}/score.py", "0o{artifact_mode}"),
        ("open a key to everybody", "{home}/keys/key.pem", "0o600"),
    ):
        yield Attempt(
            group,
            f"{name} (chmod)",
            f"import os; os.chmod('{path}', {0 if 'shut' in name else 0o666})",
            needs=Need.CALLS,
            remains=f"os.stat('{path}').st_mode & 0o7777 == {mode}",
        )
    yield Attempt(
        group,
        "mark a file of the server's (setxattr)",
        "import os; os.setxattr('{home}/havre.sqlite3', 'user.havre', b'1')",
        needs=Need.CALLS,
    )

    yield Attempt(
        group,
        "set the times of the server's files",
        "import os; os.utime('{home}/havre.sqlite3')",
        refused=SEEN,
        needs=Need.VIEW,
    )


def _processes() -> Iterator[Attempt]:
    group = "processes"
    for name, pid in (("model", "{other}"), ("process", "{victim}")):
        yield Attempt(
            group, f"signal another {name}", f"import os; os.kill({pid}, 0)", needs=Need.SIGNALS
        )
    for name, code in {
        "signal the supervisor": "import os; os.kill({supervisor}, 0)",
        "signal by descriptor": (
            "import os, signal; signal.pidfd_send_signal(os.pidfd_open({victim}), 0)"
        ),
    }.items():
        yield Attempt(group, name, code, needs=Need.SIGNALS)
    for name, code in {
        "trace another process": C + "call(117 if arm else 101, 0x4206, {victim}, 0, 0)",
        "read another's memory": C
        + """
class Vector(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]
space = ctypes.create_string_buffer(8)
here, there = Vector(ctypes.addressof(space), 8), Vector({address}, 8)
call(270 if arm else 310, {victim}, ctypes.byref(here), 1, ctypes.byref(there), 1, 0)
answer = space.raw.hex()
""",
        "take another's descriptor": C + "answer = call(438, os.pidfd_open({victim}), 1, 0)",
        "compare two processes": C
        + "answer = call(272 if arm else 312, {victim}, {supervisor}, 1, 0, 0)",
    }.items():
        yield Attempt(group, name, code, needs=Need.CALLS)
    group = "limits and priorities of others"
    for name, code in {
        "limit of the supervisor": (
            "import resource; resource.prlimit({supervisor}, 7, resource.prlimit({supervisor}, 7))"
        ),
        "limit of another process": (
            "import resource; resource.prlimit({victim}, 0, resource.prlimit({victim}, 0))"
        ),
        "limit of another model": "import resource; resource.prlimit({other}, 4, (0, 0))",
        "priority of another process": (
            "import os; os.setpriority(os.PRIO_PROCESS, {victim}, {nice}); answer = 'set'"
        ),
        "processors of another process": (
            "import os; os.sched_setaffinity({victim}, os.sched_getaffinity({victim}))"
        ),
        "scheduling of another process": (
            "import os; os.sched_setscheduler({victim}, os.SCHED_OTHER, os.sched_param(0))"
        ),
        "parameters of another's scheduling": (
            "import os; os.sched_setparam({victim}, os.sched_param(0))"
        ),
        "attributes of another's scheduling": C
        + "attributes = ctypes.create_string_buffer(b'\\x30\\0\\0\\0', 48)\n"
        + "call(274 if arm else 314, {victim}, attributes, 0)",
        "disk priority of another process": C + "call(30 if arm else 251, 1, {victim}, 0)",
        "move another's memory": C
        + "nodes = ctypes.c_ulong(1)\n"
        + "call(238 if arm else 256, {victim}, 2, ctypes.byref(nodes), ctypes.byref(nodes))",
        "move another's pages": C + "call(239 if arm else 279, {victim}, 0, 0, 0, 0, 0)",
        "advise about another's memory": C + "call(440, os.pidfd_open({victim}), 0, 0, 20, 0)",
    }.items():
        yield Attempt(group, name, code, needs=Need.CALLS)
    yield Attempt(
        group,
        "priority of all of its user, which is the server's",
        "import os; os.setpriority(os.PRIO_USER, {uid}, {nice}); answer = 'set'",
        refused=SHARED,
        needs=Need.CALLS,
    )
    # Who may raise its own likelihood to be ended may raise that of its user's other processes.
    yield Attempt(
        group,
        "likelihood to be ended when memory ends",
        "open('/proc/{victim}/oom_score_adj', 'w').write('{oom}')",
        refused=(Mode.OWN_USER, Mode.ROOT),
    )


def _sockets_and_ports() -> Iterator[Attempt]:
    group = "sockets"
    for name, path in {
        "the supervisor's": "'{home}/run/supervisor.sock'",
        "another model's": "'{home}/run/i/bbbbbbbbbbbb.sock'",
        "its own keeper's": "'{home}/run/i/aaaaaaaaaaaa.ctl'",
        "of the server's user, 0600": "'{place}/agent.sock'",
    }.items():
        yield Attempt(group, name, SOCKET.format(path=path), needs=Need.CALLS)
    yield Attempt(
        group,
        "abstract, of the server's user, which is the model's",
        SOCKET.format(path="b'\\0{abstract}'"),
        refused=SHARED,
        needs=Need.CALLS,
    )
    yield Attempt(
        group,
        "abstract, where users differ",
        SOCKET.format(path="b'\\0{abstract}'"),
        refused=(Mode.OWN_USER,),
        needs=Need.SIGNALS,
    )
    group = "the server's port"
    address = "('127.0.0.1', {port})"
    for name, kind, act in (
        ("connect", "", f"s.connect({address})"),
        ("connect over IPv6", "socket.AF_INET6", "s.connect(('::ffff:127.0.0.1', {port}))"),
        ("connect by multipath TCP", "2, 1, 262", f"s.connect({address})"),
        ("connect by SMC", "43, 1, 0", f"s.connect({address})"),
        ("connect while sending", "", f"s.sendto(b'x', 0x20000000, {address})"),
        ("take it", "", f"s.setsockopt(1, 15, 1); s.bind({address})"),
    ):
        yield Attempt(group, name, TCP.format(kind=kind, act=act), needs=Need.PORTS)
    for name, kind in (
        ("raw packets", "2, 3, 1"),
        ("packets of a device", "17, 3, 0"),
        ("virtual machines", "40, 1, 0"),
    ):
        yield Attempt(group, name, f"import socket; socket.socket({kind})", needs=None)


def _kernel() -> Iterator[Attempt]:
    group = "the kernel"
    for name, code in {
        "work without system calls (io_uring)": C
        + "call(425, 8, ctypes.create_string_buffer(120))",
        "list the session's keys": C + "answer = call(219 if arm else 250, 11, -3, 0, 0)",
        "take a key of the user": C
        + "answer = call(219 if arm else 250, 10, -4, b'user', b'havre', 0)",
        "add a key": C + "answer = call(217 if arm else 248, b'user', b'havre', b'x', 1, -3)",
    }.items():
        yield Attempt(group, name, code, needs=Need.CALLS)
    for name, code in {
        "another host name": C + "call(161 if arm else 170, b'havre', 5)",
        "a mount": C + "call(40 if arm else 165, b'x', b'/mnt', b'tmpfs', 0, 0)",
        "uncover what the view hides": C + "call(39 if arm else 166, b'{home}/run', 2)",
        "another root": C + "call(51 if arm else 161, b'.')",
        "the clock": "import time; time.clock_settime(0, time.time())",
        "a module": C + "call(105 if arm else 175, 0, 0, b'')",
        "swap space": C + "call(224 if arm else 167, b'/none', 0)",
        "another user": ANOTHER_USER,
        "another group": "import os; os.setgroups([12345])",
        "a file's capabilities": (
            "import os; open('f', 'w').close(); "
            "os.setxattr('f', 'security.capability', b'\\0\\0\\0\\2' + bytes(16))"
        ),
        "another's namespaces": C + "call(268 if arm else 308, os.pidfd_open({victim}), 0x20000)",
        "a program of eBPF": C
        + "call(280 if arm else 321, 5, ctypes.create_string_buffer(120), 120)",
        "limits of control groups": LIMITS,
    }.items():
        yield Attempt(group, name, code)
    yield Attempt(
        group,
        "mount in namespaces of its own",
        C
        + "pid = os.fork()\n"
        + "if pid == 0:\n"
        + "    try:\n"
        + "        call(97 if arm else 272, 0x10020000)\n"
        + "        call(40 if arm else 165, b'x', b'/mnt', b'tmpfs', 0, 0)\n"
        + "    except OSError:\n"
        + "        os._exit(7)\n"
        + "    os._exit(0)\n"
        + "if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7: raise PermissionError('no')\n"
        + "answer = 'mounted'",
        needs=Need.FILES,
    )
    group = "shared memory"
    yield Attempt(
        group,
        "of System V, of the server's user",
        C + "answer = call(194 if arm else 29, {key}, 8, 0)",
        refused=SEEN,
        needs=Need.VIEW,
    )
    yield Attempt(
        group,
        "of POSIX, of the server's user",
        "answer = open('/dev/shm/{mark}').read()",
        refused=SEEN,
        needs=Need.VIEW,
    )


REFUSALS = (
    *(errno.EPERM, errno.EACCES, errno.EROFS, errno.ENOSYS, errno.EXDEV),
    *(errno.ENOENT, errno.ESRCH, errno.ECONNREFUSED),
    *(errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.EOPNOTSUPP),
)
"""Errors that say no, or that there is no such thing: not those for what was asked wrongly."""


def is_refused(answer: object) -> bool:
    """Whether a model's answer is such an error."""
    if not isinstance(answer, str):
        return False
    name, _, text = answer.partition(": ")
    number = re.match(r"\[Errno (\d+)\]", text)
    if number:
        return int(number[1]) in REFUSALS
    return name == "PermissionError"


@dataclass(frozen=True, slots=True)
class Use:
    """What a model needs, and may do in every mode: ``code`` answers with a true value."""

    name: str
    code: str


USES = tuple(
    Use(name, code)
    for name, code in {
        "write its home": "open('x', 'w').write('x'); answer = 1",
        "write shared memory": "open('/dev/shm/{mark}-left', 'w').write('x'); answer = 1",
        "write temporary files": (
            "import os, tempfile; answer = tempfile.gettempdir() == os.environ['TMPDIR'] "
            "and tempfile.TemporaryFile().write(b'x')"
        ),
        "copy a file with its mode and times": (
            "import shutil, sys; answer = shutil.copy2(sys.executable, 'copied')"
        ),
        "move a file from TMPDIR": (
            "import os, shutil, tempfile; _, path = tempfile.mkstemp(); "
            "answer = shutil.move(path, 'moved')"
        ),
        "count processes": "import resource; answer = 0 < resource.getrlimit(6)[0] < 100000",
        "lower its own limits": "import resource; resource.setrlimit(4, (0, 0)); answer = 1",
        "read limits of others": (
            "import os, resource; answer = resource.prlimit(os.getppid(), 7)[0]"
        ),
        "lower its own priority": "import os; answer = os.nice(1) + 1",
        "choose its own processors": (
            "import os; os.sched_setaffinity(0, os.sched_getaffinity(0)); answer = 1"
        ),
        "be a batch process": (
            "import os; os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0)); answer = 1"
        ),
        "start a program": "import subprocess; answer = subprocess.call(['/bin/true']) + 1",
        "start threads": (
            "import threading; answer = []; "
            "t = threading.Thread(target=answer.append, args=(1,)); t.start(); t.join()"
        ),
        "a pool of processes": (
            "import multiprocessing as m\n"
            "with m.get_context('fork').Pool(2) as pool: answer = sum(pool.map(abs, [-1, -2]))"
        ),
        "a pair of sockets": "import socket; a, b = socket.socketpair(); a.send(b'x'); answer = 1",
        "an event loop": ("import asyncio; answer = asyncio.run(asyncio.sleep(0, 'slept'))"),
        "call another port": (
            "import socket; s = socket.create_connection(('127.0.0.1', {open_port})); answer = 1"
        ),
        "watch files": C + "answer = call(26 if arm else 294, 0)",
        "signal its keeper": "import os; os.kill(os.getppid(), 0); answer = 1",
    }.items()
)

ATTEMPTS = tuple(_attempts())
