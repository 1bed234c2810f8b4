"""A member of a local cluster that only behaves like one to its supervisor: `python member.py ROLE [flags]`.

Flags besides those of members: `--fail` ends at once, `--deaf` ignores SIGTERM, `--mute` is never ready, `--dies` ends when it is ready.
"""

import argparse
import asyncio
import json
import signal
import sys


def _say(**entry: object) -> None:
    sys.stderr.write(json.dumps(entry) + "\n")
    sys.stderr.flush()


async def _answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    writer.close()


async def _run(flags: argparse.Namespace) -> int:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, (lambda: None) if flags.deaf else stop.set)
    if flags.fail:
        _say(event="start_failed", reason="it is made to")
        return 1
    if not flags.mute:
        server = await asyncio.start_server(_answer, "127.0.0.1", flags.port)
        host, port = server.sockets[0].getsockname()
        _say(event="ready", data=f"{host}:{port}", role=flags.role)
    if flags.dies:
        return 3
    await stop.wait()
    _say(event="drained", role=flags.role)
    return 0


def main() -> int:
    """Behave until SIGTERM."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("role")
    parser.add_argument("--port", type=int, default=0)
    for name in ("fail", "deaf", "mute", "dies"):
        parser.add_argument(f"--{name}", action="store_true")
    flags, _others = parser.parse_known_args()
    return asyncio.run(_run(flags))


if __name__ == "__main__":
    sys.exit(main())
