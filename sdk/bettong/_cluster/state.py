"""What a running local cluster leaves in its folder, so that other commands find its members."""

import fcntl
import json
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bettong_kit.errors import NotFoundError, UnavailableError

_FILE = "cluster.json"
_WANTED = "start"
_PAUSED = "T"
_LOOK_S = 0.05


@dataclass(frozen=True, slots=True)
class ChildStatus:
    """One member, or etcd."""

    name: str
    role: str
    state: str
    pid: int | None
    address: str
    restarts: int


@dataclass(frozen=True, slots=True)
class ClusterStatus:
    """All of a local cluster."""

    pid: int
    """Of the supervisor."""
    url: str
    etcd: str
    members: tuple[ChildStatus, ...]

    def find(self, name: str) -> ChildStatus:
        """Return a member by its name.

        Raises:
            NotFoundError: There is none; names those that there are.
        """
        for member in self.members:
            if member.name == name:
                return member
        known = ", ".join(member.name for member in self.members)
        raise NotFoundError(f"the cluster has no '{name}'; it has: {known}")


def write_status(folder: Path, status: ClusterStatus) -> None:
    """Leave *status* in the folder; readers see the one before or this one."""
    unfinished = folder / f"{_FILE}.new"
    unfinished.write_text(json.dumps(asdict(status), indent=1), encoding="utf-8")
    unfinished.replace(folder / _FILE)


def read_status(folder: Path) -> ClusterStatus:
    """Return what runs in a folder.

    Raises:
        NotFoundError: No cluster runs there.
    """
    if not _is_locked(folder):
        raise NotFoundError(f"no cluster runs in {folder}; start one with `bettong cluster up --data {folder}`")
    try:
        document = json.loads((folder / _FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise NotFoundError(f"the cluster in {folder} has not begun yet; try again") from error
    members: Sequence[dict[str, object]] = document.pop("members")
    return ClusterStatus(members=tuple(_checked(ChildStatus(**member)) for member in members), **document)  # type: ignore[arg-type]


def signal_member(status: ClusterStatus, name: str, number: signal.Signals) -> int:
    """Send a signal to a member's process and return its id.

    Raises:
        NotFoundError: There is no such member.
        UnavailableError: It has no process at the moment.
    """
    member = status.find(name)
    if member.pid is None:
        raise UnavailableError(f"{name} has no process at the moment; it is {member.state}")
    try:
        os.kill(member.pid, number)
    except ProcessLookupError as error:
        raise UnavailableError(f"{name} has just ended") from error
    return member.pid


def until_ended(folder: Path, name: str, pid: int) -> None:
    """Wait until a member's process has ended and the supervisor knows.

    Raises:
        NotFoundError: The cluster has ended meanwhile.
    """
    while read_status(folder).find(name).pid == pid:
        time.sleep(_LOOK_S)


def ask_to_start(folder: Path, status: ClusterStatus, name: str) -> None:
    """Ask the supervisor to start a member that was stopped.

    Raises:
        NotFoundError: There is no such member.
        UnavailableError: It runs.
    """
    member = status.find(name)
    if member.pid is not None:
        raise UnavailableError(f"{name} runs as process {member.pid}")
    # A signal carries no name; the file does.
    (folder / _WANTED).write_text(name, encoding="utf-8")
    os.kill(status.pid, signal.SIGUSR1)


def take_wanted(folder: Path) -> str:
    """Return the name of the member that `ask_to_start` asked for last; empty if there is none."""
    try:
        name = (folder / _WANTED).read_text(encoding="utf-8")
        (folder / _WANTED).unlink()
    except OSError:
        return ""
    return name


def _checked(member: ChildStatus) -> ChildStatus:
    """Return a member as it is now: a process may be paused."""
    if member.pid is not None and _letter(member.pid) == _PAUSED:
        return ChildStatus(**asdict(member) | {"state": "paused"})
    return member


def _letter(pid: int) -> str:
    """Return how Linux calls the state of a process; nothing where nobody says."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return text.rpartition(")")[2].split()[0]


def _is_locked(folder: Path) -> bool:
    """Return whether a supervisor holds the folder."""
    try:
        descriptor = os.open(folder / "lock", os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
