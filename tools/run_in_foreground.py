"""Run a command as the terminal's foreground job, as a shell does, so that Ctrl-C reaches it alone.

`make` ends itself with the signal even if its recipe handled it well; this keeps the signal from make, so that
`make run` ends with the exit code of what it ran. Without a terminal the command just takes this process over.
"""

import os
import signal
import subprocess
import sys


def main() -> int:
    """Return the command's exit code, 128 + n if signal n ended it."""
    command, terminal, ours = sys.argv[1:], sys.stdin.fileno(), os.getpgrp()
    if not os.isatty(terminal) or os.tcgetpgrp(terminal) != ours:
        os.execvp(command[0], command)  # noqa: S606 - the command is the recipe's own
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    with subprocess.Popen(command, process_group=0) as process:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda received, _frame: process.send_signal(received))
        os.tcsetpgrp(terminal, process.pid)
        try:
            code = process.wait()
        finally:
            os.tcsetpgrp(terminal, ours)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
