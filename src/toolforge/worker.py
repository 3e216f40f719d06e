"""One thread that routes, and the bounded line of queries that wait for it."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from toolforge.router import Router, Routing


class QueueFull(Exception):  # noqa: N818 - named as queue.Full is
    """As many queries wait as may."""


class Worker:
    """Routes one query after the other, first come, first served. Belongs to one event loop."""

    def __init__(self, router: Router, places: int) -> None:
        """At most `places` queries that someone still waits for wait or are being routed at a time."""
        self._router, self._places = router, places
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="router")
        self.depth = 0

    async def route(self, query: str, threshold: float | None) -> Routing:
        """Router.route, in its turn. Raises QueueFull, and what Router.route raises.

        Where the caller is cancelled, its query leaves the line unless its turn had come.
        """
        if self.depth >= self._places:
            raise QueueFull
        self.depth += 1
        try:
            return await asyncio.wrap_future(self._thread.submit(self._router.route, query, threshold))
        finally:
            self.depth -= 1
