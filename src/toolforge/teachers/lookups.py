"""An event loop that a name look-up cannot hold up at its end."""

import asyncio
import socket
import threading
from concurrent.futures import Future
from typing import Any


class Loop(asyncio.SelectorEventLoop):
    """Looks names up in daemon threads. asyncio's own threads are waited for at the end, Ctrl-C or not: on a laptop that is offline, for as
    long as the resolver takes to give up.
    """

    async def getaddrinfo(self, host: Any, port: Any, **options: Any) -> Any:
        """As socket.getaddrinfo."""
        found: Future[Any] = Future()

        def look_up() -> None:
            if found.set_running_or_notify_cancel():
                try:
                    found.set_result(socket.getaddrinfo(host, port, **options))
                except OSError as error:
                    found.set_exception(error)

        threading.Thread(target=look_up, daemon=True).start()
        return await asyncio.wrap_future(found)
