"""One process on one port: listens, says so, and drains when it is told to stop."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import Any, TypeVar

import uvicorn
from fastapi import FastAPI

KEEP_ALIVE_S = 75
"""How long an idle connection stays: longer than load balancers keep theirs, so that none of them sends into a closed one."""
T = TypeVar("T")
OnListening = Callable[[str], None]


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a server's coroutine on the event loop that uvicorn prefers: uvloop's, where it is installed."""
    with asyncio.Runner(loop_factory=uvicorn.Config("").get_loop_factory()) as runner:
        return runner.run(work)


class DrainingServer(uvicorn.Server):
    """A uvicorn server that stops taking requests at the first SIGTERM or SIGINT, lets answers end, and exits with 0.

    A second signal ends it at once.
    """

    def __init__(self, app: FastAPI, host: str, port: int, *, drain_s: float, on_listening: OnListening) -> None:
        config = uvicorn.Config(
            app,
            host,
            port,
            access_log=False,
            log_config=None,  # the program's own holds
            log_level="warning",
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=max(1, round(drain_s)),
        )
        super().__init__(config)
        self._app = app
        self._on_listening = on_listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say where."""
        await super().startup(sockets)
        if self.started:
            gc.collect()
            gc.freeze()  # what is loaded by now stays: looking through it again and again stops every answer for 0.1 s
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            self._on_listening(f"http://{f'[{host}]' if ':' in host else host}:{port}")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain; uvicorn's own would end the process by the same signal afterwards, which looks like a failure."""
        self.force_exit = self.should_exit
        self.should_exit = self._app.state.is_draining = True
