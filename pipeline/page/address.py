"""Where the page may be reached: hosts, ports, URLs. Loads nothing heavy, so that what can't be is told at once."""

import ipaddress
import socket
from collections.abc import Mapping

from rtdscan.transforms.errors import UserError


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens there."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def is_this_machine(host: str) -> bool:
    """Whether a host that a browser names is this machine's loopback, in one of the three usual spellings."""
    bare = host.strip("[]")
    return bare in ("localhost", "::1") or (is_loopback(bare) and bare.startswith("127."))


def check_login(host: str, users: Mapping[str, str]) -> None:
    """Refuse to show a corpus to a whole network without a login.

    Raises:
        UserError: The host is not loopback, and nobody could log in.
    """
    if not is_loopback(host) and not users:
        raise UserError(
            f"--host {host}: others could read the corpus; name who may log in, by users.env (an environment variable)"
            " or users.file in a config file, or leave --host out and reach the page through `ssh -L`"
        )


def bind(host: str, port: int) -> socket.socket:
    """Take a port.

    Raises:
        UserError: It is taken or not ours to take, or there is no such host.
    """
    try:
        kind, _, _, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
        taken = socket.socket(kind, socket.SOCK_STREAM)
    except OSError as error:
        raise UserError(
            f"--host {host}: {error.strerror or error}; expected a name or address of this machine"
        ) from error
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(address)
        # Only now: of two programs that bind one port with SO_REUSEADDR the second fails here at the latest.
        taken.listen(128)
    except OSError as error:
        taken.close()
        why = error.strerror or str(error)
        raise UserError(f"port {port} of {host}: {why}; choose another with --port, 0 for any that is free") from error
    return taken


def url_of(host: str, port: int) -> str:
    """What to type into a browser; for a host that means all addresses, this machine's name."""
    bare = host.strip("[]")
    name = socket.gethostname() if bare in ("0.0.0.0", "::") else f"[{bare}]" if ":" in bare else bare
    return f"http://{name}:{port}/"


def without_port(host: str) -> str:
    """The host of a Host header."""
    bracketed, closing, _ = host.rpartition("]")
    return f"{bracketed}]" if closing else host.rpartition(":")[0] or host
