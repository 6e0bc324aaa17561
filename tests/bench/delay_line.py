"""The network between two machines, on one: passes bytes between Unix sockets, each a set time after it came.

A process of its own with threads, since an event loop's timers are too coarse for half a millisecond. Each line on its
standard input is the delay from then on, one way, in seconds."""

import argparse
import contextlib
import queue
import socket
import sys
import threading
import time
from pathlib import Path

_CHUNK_BYTES = 65536
READY = "ready"


class _Delay:
    """Shared by all directions."""

    seconds = 0.0


def _receive(source: socket.socket, line: "queue.SimpleQueue[tuple[float, bytes]]") -> None:
    chunk = b"-"
    while chunk:
        chunk = b""
        with contextlib.suppress(OSError):
            chunk = source.recv(_CHUNK_BYTES)
        line.put((time.monotonic(), chunk))


def _send(target: socket.socket, line: "queue.SimpleQueue[tuple[float, bytes]]", delay: _Delay) -> None:
    with contextlib.suppress(OSError):
        while True:
            came, chunk = line.get()
            if not chunk:
                break
            if (wait := came + delay.seconds - time.monotonic()) > 0:
                time.sleep(wait)
            target.sendall(chunk)
    for way in (socket.SHUT_WR, socket.SHUT_RD):
        with contextlib.suppress(OSError):
            target.shutdown(way)


def _connect(client: socket.socket, server: Path, delay: _Delay) -> None:
    upstream = socket.socket(socket.AF_UNIX)
    upstream.connect(str(server))
    for source, target in ((client, upstream), (upstream, client)):
        line: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
        threading.Thread(target=_receive, args=(source, line), daemon=True).start()
        threading.Thread(target=_send, args=(target, line, delay), daemon=True).start()


def _serve(listening: socket.socket, server: Path, delay: _Delay) -> None:
    while True:
        client, _ = listening.accept()
        try:
            _connect(client, server, delay)
        except OSError:
            client.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("listen", type=Path, help="the socket to be made")
    parser.add_argument("server", type=Path, help="the socket behind it")
    given = parser.parse_args()
    # threads hand over to each other at once, and not after 5 ms
    sys.setswitchinterval(0.0001)
    delay = _Delay()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(given.listen))
        # the account of the other server connects
        given.listen.chmod(0o777)
        listening.listen()
        threading.Thread(target=_serve, args=(listening, given.server, delay), daemon=True).start()
        sys.stdout.write(f"{READY}\n")
        sys.stdout.flush()
        for line in sys.stdin:
            delay.seconds = float(line)


if __name__ == "__main__":
    main()
