"""``personalagent serve``: the server on one port."""

from __future__ import annotations

import asyncio
import logging
from typing import Annotated

import typer

from personalagent.agent import PersonalAgent
from personalagent.cli.doors import settings_of
from personalagent.cli.terminal import note
from personalagent.config import Settings
from personalagent.errors import ConfigError, EnvironmentProblem, UsageError

LOOPBACK = ("127.0.0.1", "::1", "localhost")
_log = logging.getLogger(__name__)


def serve(
    context: typer.Context,
    host: Annotated[str, typer.Option(help="The address to listen on; one that is not loopback needs a key.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 takes a free one.")] = 8787,
    learn_mode: Annotated[
        str | None, typer.Option("--learn-mode", help="Infer `after` the answer or `before` it; else the setting.")
    ] = None,
) -> None:
    """Make any OpenAI client personal: a proxy for chat completions, and profiles over REST."""
    settings = settings_of(context, learn_mode=learn_mode)
    try:
        from personalagent.server.listen import run
    except ImportError as error:
        raise ConfigError(
            f"expected the packages of the server, got no {error.name}; pip install 'personalagent[server]'"
        ) from error
    run(_serve(settings, host, port))


async def _serve(settings: Settings, host: str, port: int) -> None:
    from personalagent.server.app import create_app
    from personalagent.server.listen import DrainingServer
    from personalagent.server.request_log import configure_logging

    agent = PersonalAgent(settings)
    try:
        if host not in LOOPBACK and not await asyncio.to_thread(agent.store.has_keys):
            raise UsageError(
                f"expected a key before the server listens on {host!r}, got none; make one with `personalagent keys create`, "
                "or leave --host out"
            )
        configure_logging(settings.log_format)
        listening = _log.info if settings.log_format == "json" else note
        server = DrainingServer(
            create_app(agent),
            host,
            port,
            drain_s=settings.drain_s,
            on_listening=lambda address: listening(f"listening: set a client's base URL to {address}/v1 (Ctrl-C ends)"),
        )
        try:
            await server.serve()
        except SystemExit:  # uvicorn's way to say that it cannot listen; it has said why
            raise EnvironmentProblem(
                f"expected to listen on {host}:{port}, got an address that is taken or not this machine's; choose another --port"
            ) from None
    finally:
        await agent.aclose()
