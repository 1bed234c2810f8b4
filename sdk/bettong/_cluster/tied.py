"""Becomes the command that follows a process id, and is asked to end when the process of that id dies.

A supervisor that is killed could not end what it started. Linux tells the children, if they asked for it; elsewhere nobody does. It
is asked for here, in a process of its own, because code between fork and exec hangs where threads of gRPC live.
"""

import ctypes
import os
import signal
import sys

_SET_PARENT_DEATH_SIGNAL = 1


def main() -> None:
    """Become the command, unless the parent is gone already."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)
        if os.getppid() != parent:
            return
    os.execvp(command[0], command)  # noqa: S606 - the command is the supervisor's own


if __name__ == "__main__":
    main()
