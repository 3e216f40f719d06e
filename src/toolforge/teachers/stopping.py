"""How a run is stopped: by a signal, and at once."""

import asyncio
import contextlib
import functools
import signal
import socket
import threading
from collections.abc import Collection
from concurrent.futures import Future
from typing import Any


async def until_done_or_signal(tasks: Collection["asyncio.Task[None]"]) -> bool:
    """Wait for all tasks, or the first that raises, or SIGINT or SIGTERM; whether it was a signal."""
    loop, interrupted = asyncio.get_running_loop(), asyncio.Event()
    with contextlib.ExitStack() as stack:
        for number in (signal.SIGINT, signal.SIGTERM):
            # Only the main thread may; a test's other thread goes without.
            with contextlib.suppress(RuntimeError, ValueError):
                loop.add_signal_handler(number, interrupted.set)
                stack.callback(functools.partial(loop.remove_signal_handler, number))
        signalled = asyncio.create_task(interrupted.wait())
        try:
            left: set[asyncio.Task[None]] = set(tasks)
            while left and not interrupted.is_set():
                done, _ = await asyncio.wait({*left, signalled}, return_when=asyncio.FIRST_COMPLETED)
                left -= done
                if any(task is not signalled and not task.cancelled() and task.exception() for task in done):
                    return False
        finally:
            signalled.cancel()
    return interrupted.is_set()


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
                except Exception as error:
                    found.set_exception(error)

        threading.Thread(target=look_up, daemon=True).start()
        return await asyncio.wrap_future(found)
