"""Whether an address can be listened on, told before anything starts and in words that help."""

import errno
import socket

from bettong_kit.errors import AddressInUseError


def check_free(host: str, port: int, *, what: str = "", choose: str = "choose another port") -> None:
    """Refuse an address that nobody can listen on; 0 asks about the host alone.

    Args:
        host: Name or number of the host.
        port: Its port.
        what: What the port is for, for the message.
        choose: What to do about a port that is taken.

    Raises:
        AddressInUseError: Names the address and why.
    """
    wanted = f"cannot listen on {host}:{port}{f', {what}' if what else ''}"
    try:
        family, kind, protocol, _name, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            # A server that has just ended leaves connections behind that do not keep anybody from listening.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except (socket.gaierror, UnicodeError) as error:
        raise AddressInUseError(f"{wanted}: nothing is known of a host '{host}'") from error
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            raise AddressInUseError(f"{wanted}: this machine has no address {host}") from error
        is_taken = error.errno == errno.EADDRINUSE
        reason = "it is in use by another process" if is_taken else error.strerror or str(error)
        raise AddressInUseError(f"{wanted}: {reason}; {choose}") from error
