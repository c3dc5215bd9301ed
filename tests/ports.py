"""Port that another program holds."""

import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager

from local.cloud.emulator_process import HOST


@contextmanager
def occupied(port: int) -> Iterator[None]:
    """Listen on a port of this machine until the block ends."""
    with closing(socket.socket()) as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind((HOST, port))
        holder.listen()
        yield
