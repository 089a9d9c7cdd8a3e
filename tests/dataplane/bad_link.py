"""A link between two hosts for the tests: a TCP relay that cuts every connection after so many bytes, or swallows what comes, either way."""

import contextlib
import select
import socket
import threading


class BadLink:
    """Relays to `address` from a port of its own. `cut_after`: bytes from the server until a connection is cut; None: never.

    What is said `to` or `from` the server is taken and goes nowhere while that is in `swallows`; the connection stands, as far as both can see.
    `bytes_per_s` is what passes each way; None: all that comes.
    """

    def __init__(self, address: str, cut_after: int | None = None) -> None:
        self._host, _, port = address.partition(":")
        self._port = int(port)
        self.cut_after = cut_after
        self.cuts = self.carried = 0
        self.swallows: frozenset[str] = frozenset()
        self.bytes_per_s: int | None = None
        self._closing = threading.Event()
        self._door = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._door.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        """End all connections."""
        self._closing.set()
        for thread in self._threads:
            thread.join()
        self._door.close()

    def _accept(self) -> None:
        while not self._closing.is_set():
            if select.select([self._door], [], [], 0.02)[0]:
                near, _ = self._door.accept()
                thread = threading.Thread(target=self._relay, args=(near,))
                self._threads.append(thread)
                thread.start()

    def _relay(self, near: socket.socket) -> None:
        left = self.cut_after
        with near, contextlib.suppress(OSError), socket.create_connection((self._host, self._port)) as far:
            while not self._closing.is_set():
                for one in select.select([near, far], [], [], 0.02)[0]:
                    rate = self.bytes_per_s
                    data = one.recv(rate // 50 if rate else 1 << 16)
                    if not data:
                        return
                    if one is far:
                        self.carried += len(data)
                        left = None if left is None else left - len(data)
                        if left is not None and left < 0:
                            self.cuts += 1
                            return
                    if rate:
                        self._closing.wait(len(data) / rate)
                    if ("from" if one is far else "to") not in self.swallows:
                        (far if one is near else near).sendall(data)
