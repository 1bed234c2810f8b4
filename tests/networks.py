"""Network namespaces that a test can cut from each other, one way or both, and heal again.

Each place is a namespace of its own with one leg to a hub that routes between them. A cut makes the hub drop what comes from one place
for the other, without telling anybody: as a broken switch does, and unlike a process that dies.
"""

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest

CLIENT = "client"
"""The place of the test itself: the namespace that it runs in."""
_PREFIX = "bettong-"
_BLOCKS = 256
"""Networks of as many processes may be there at once, each with a block of addresses of its own."""
_BLOCK_PLACES = 64
_numbers = itertools.count()


@dataclass(frozen=True)
class Place:
    """A namespace with one address."""

    name: str
    address: str
    namespace: str
    """Empty for the one of the test."""
    leg: str
    """Its side in the hub."""

    @property
    def within(self) -> tuple[str, ...]:
        """What a command begins with that is run here."""
        return ("ip", "netns", "exec", self.namespace) if self.namespace else ()


class Network:
    """Places by name. All reach each other until they are cut."""

    def __init__(self) -> None:
        number = next(_numbers)
        self._id = f"{_PREFIX}{os.getpid()}-{number}"
        self._hub = f"{self._id}-hub"
        self._device = f"bt{os.getpid()}-{number}"
        self._block = (os.getpid() + number) % _BLOCKS
        self._places: dict[str, Place] = {}
        self._cuts: set[tuple[str, str]] = set()

    def open(self) -> None:
        """Make the hub and the leg of the test."""
        _ip("netns", "add", self._hub)
        _ip("-n", self._hub, "link", "set", "lo", "up")
        _run("ip", "netns", "exec", self._hub, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
        self.add(CLIENT)

    def add(self, name: str) -> Place:
        """Make a place, or return the one that there is."""
        if name in self._places:
            return self._places[name]
        index = len(self._places)
        assert index < _BLOCK_PLACES, "the network is full"
        gateway, ours = (f"198.18.{self._block}.{4 * index + host}" for host in (1, 2))
        if name == CLIENT:
            place = Place(name, ours, "", f"leg{index}")
            device, target, route = self._device, str(os.getpid()), f"198.18.{self._block}.0/24"
        else:
            place = Place(name, ours, f"{self._id}-{name}", f"leg{index}")
            device, target, route = "eth0", place.namespace, "default"
            _ip("netns", "add", place.namespace)
            _ip("-n", place.namespace, "link", "set", "lo", "up")
        inside = ("-n", place.namespace) if place.namespace else ()
        peer = ("peer", "name", device, "netns", target)
        _ip("-n", self._hub, "link", "add", place.leg, "type", "veth", *peer)
        _ip("-n", self._hub, "addr", "add", f"{gateway}/30", "dev", place.leg)
        _ip("-n", self._hub, "link", "set", place.leg, "up")
        _ip(*inside, "addr", "add", f"{ours}/30", "dev", device)
        _ip(*inside, "link", "set", device, "up")
        _ip(*inside, "route", "add", route, "via", gateway)
        self._places[name] = place
        return place

    def cut(self, sender: str, receiver: str) -> None:
        """Drop what one place sends to the other from now on; the other way is left as it is."""
        self._cuts.add((sender, receiver))
        _ip("-n", self._hub, "rule", "add", *self._rule(sender, receiver))

    def heal(self) -> None:
        """Let everything through again."""
        for sender, receiver in self._cuts:
            _ip("-n", self._hub, "rule", "del", *self._rule(sender, receiver))
        self._cuts.clear()

    def close(self) -> None:
        """Remove every place, and end what still runs there."""
        with contextlib.suppress(subprocess.CalledProcessError):
            # A namespace is taken apart some time after it was removed, what is in the way of others must go at once.
            _ip("link", "del", self._device)
        _remove([*(place.namespace for place in self._places.values() if place.namespace), self._hub])

    def _rule(self, sender: str, receiver: str) -> tuple[str, ...]:
        place = self._places[receiver]
        return ("iif", self._places[sender].leg, "to", f"{place.address}/32", "type", "blackhole")


@contextlib.contextmanager
def network() -> Iterator[Network]:
    """Make a network and remove it, however the block ends; skip where that is not allowed."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("partitions need root and ip (Debian: apt-get install iproute2)")
    _remove_abandoned()
    made = Network()
    try:
        try:
            made.open()
        except subprocess.CalledProcessError as error:
            if "not permitted" not in error.stderr:
                raise
            pytest.skip(f"namespaces cannot be made here: {error.stderr.strip()}")
        yield made
    finally:
        made.close()


def _remove_abandoned() -> None:
    """Remove what test processes have left that were killed."""
    names = [line.split()[0] for line in _ip("netns", "list").splitlines() if line.startswith(_PREFIX)]
    _remove([name for name in names if not os.path.exists(f"/proc/{name.split('-')[1]}")])  # noqa: PTH110 - no file


def _remove(namespaces: Sequence[str]) -> None:
    for namespace in namespaces:
        with contextlib.suppress(subprocess.CalledProcessError):
            for pid in _ip("netns", "pids", namespace).split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
        with contextlib.suppress(subprocess.CalledProcessError):
            _ip("netns", "del", namespace)


def _ip(*arguments: str) -> str:
    return _run("ip", *arguments)


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
