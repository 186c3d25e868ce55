"""What the proxy adds to a chat completion, and whether it holds many streams: measured on this machine, with nothing to set up.

    python benchmarks/proxy_latency.py --json results/server.json

Three processes: a model's endpoint that begins every answer after 200 ms, `personalagent serve` on an empty SQLite file before it, and
the load. Requests go out at fixed times, answered earlier ones or not, each with one of 50 users and new words; blocks of seconds
on the endpoint itself and through the server take turns, so that both meet the same machine. Then 600 streams of 41 events
are opened at once through the server. The endpoint is the policy too, so that turns are learned meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import aiohttp
from aiohttp import web

USERS = 50
MODEL_MS = 200
STREAMS, EVENTS, EVENT_MS = 600, 41, 50
MODEL = "mock"


async def answer(request: web.Request) -> web.StreamResponse:
    """Answer as a model that thinks for a while; the policy learns nothing from "none"."""
    asked = await request.json()
    await asyncio.sleep(MODEL_MS / 1000)
    head = {"id": "x", "created": 0, "model": MODEL}
    if not asked.get("stream"):
        message = {"role": "assistant", "content": "none"}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        return web.json_response({**head, "object": "chat.completion", "choices": choices, "usage": usage})
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for number in range(EVENTS):
        is_last = number == EVENTS - 1
        choice = {
            "index": 0,
            "delta": {} if is_last else {"content": f"word{number} "},
            "finish_reason": "stop" if is_last else None,
        }
        chunk = json.dumps({**head, "object": "chat.completion.chunk", "choices": [choice]})
        await response.write(f"data: {chunk}\n\n".encode())
        await asyncio.sleep(EVENT_MS / 1000)
    await response.write(b"data: [DONE]\n\n")
    return response


def serve_model() -> None:
    """Be the model's endpoint, and say where."""

    async def main() -> None:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, backlog=2_000)
        await site.start()
        print(f"http://127.0.0.1:{runner.addresses[0][1]}/v1", flush=True)
        await asyncio.Event().wait()

    asyncio.run(main())


@contextmanager
def running(*command: str, **environment: str) -> Iterator[tuple[str, int]]:
    """Run a process that says its address; give the address and the process' id."""
    process = subprocess.Popen(  # noqa: S603 - this file and this package
        command, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    try:
        while not (found := re.search(r"http://127\.0\.0\.1:\d+/v1", line := process.stdout.readline())):
            if not line:
                raise SystemExit(f"expected {command[-1]} to listen, got its end")
        yield found[0], process.pid
    finally:
        process.terminate()
        process.wait()


def body(number: int, *, stream: bool = False) -> dict[str, object]:
    """Return a request with new words of one of the users."""
    words = f"Request {uuid4().hex}: what shall I cook for dinner tonight?"
    return {"model": MODEL, "stream": stream, "user": f"user{number % USERS}", "messages": [{"role": "user", "content": words}]}


async def one(session: aiohttp.ClientSession, url: str, number: int, took: list[float], failed: list[int]) -> None:
    """Send a request and note how long its answer took, in milliseconds."""
    started = time.perf_counter()
    async with session.post(f"{url}/chat/completions", json=body(number)) as response:
        await response.read()
        (failed.append(response.status) if response.status != 200 else took.append((time.perf_counter() - started) * 1000))


async def latency(urls: dict[str, str], rate: float, seconds: float, block_s: float) -> dict[str, dict[str, float]]:
    """Return percentiles by name, and what the second adds to the first."""
    took: dict[str, list[float]] = {name: [] for name in urls}
    failed: dict[str, list[int]] = {name: [] for name in urls}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        for turn in range(-1, round(seconds / block_s)):  # the first block of each warms up and is not counted
            for name, url in urls.items():
                tasks, begin = [], time.perf_counter()
                for number in range(round(rate * block_s)):
                    await asyncio.sleep(max(0.0, begin + number / rate - time.perf_counter()))
                    counted = (took[name], failed[name]) if turn >= 0 else ([], [])
                    tasks.append(asyncio.create_task(one(session, url, number, *counted)))
                await asyncio.gather(*tasks)
    report = {}
    for name, values in took.items():
        cuts = statistics.quantiles(values, n=100, method="inclusive")
        report[name] = {"requests": len(values), "failed": len(failed[name])} | {
            f"p{p}_ms": round(cuts[p - 1], 2) for p in (50, 95, 99)
        }
    raw, through = report.values()
    report["added"] = {name: round(through[name] - raw[name], 2) for name in raw if name.endswith("_ms")}
    return report


async def streamed(session: aiohttp.ClientSession, url: str, number: int) -> tuple[float, bool]:
    """Read a stream; return the seconds to its first event, and whether it came whole."""
    started, first, events, raw = time.perf_counter(), 0.0, 0, b""
    async with session.post(f"{url}/chat/completions", json=body(number, stream=True)) as response:
        async for line in response.content:
            if line.startswith(b"data:"):
                first = first or time.perf_counter() - started
                events += 1
                raw = line
    return first, events == EVENTS + 1 and raw.strip() == b"data: [DONE]"


def peak_mb(pid: int) -> int:
    """Return the most memory that a process held, in MB."""
    resident = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(encoding="ascii"))
    assert resident is not None
    return round(int(resident[1]) / 1024)


async def streams(url: str, server_pid: int) -> dict[str, float]:
    """Open all streams at once and read them to their ends."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=300)) as session:
        read = await asyncio.gather(*(streamed(session, url, number) for number in range(STREAMS)))
    cuts = statistics.quantiles([first for first, _ in read], n=100, method="inclusive")
    return {
        "streams": STREAMS,
        "complete": sum(is_whole for _, is_whole in read),
        "first_event_p50_s": round(cuts[49], 3),
        "first_event_p99_s": round(cuts[98], 3),
        "server_peak_mb": peak_mb(server_pid),
    }


def main() -> None:
    """Measure, print, and keep the figures where --json says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=100.0, help="requests a second")
    parser.add_argument("--seconds", type=float, default=60.0, help="of load on each of the two")
    parser.add_argument("--block", type=float, default=5.0, help="seconds on one before the other takes its turn")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    parser.add_argument("--model", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.model:
        return serve_model()
    report: dict[str, object] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}",
        "commit": subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip(),  # noqa: S607
        "rate_per_s": given.rate,
        "model_ms": MODEL_MS,
        "learn_mode": "after",
    }
    with tempfile.TemporaryDirectory() as folder, running(sys.executable, __file__, "--model") as (model, _):
        settings = {
            "PERSONALAGENT_DATABASE_URL": f"sqlite:///{folder}/agent.db",
            "PERSONALAGENT_POLICY": f"{MODEL}@{model}",
            "PERSONALAGENT_RESPONDER": f"{MODEL}@{model}",
            "OPENAI_API_KEY": "none",
        }
        serve = (sys.executable, "-c", "from personalagent.cli.main import main; main()", "serve", "--port", "0")
        with running(*serve, **settings) as (server, pid):
            report["latency"] = asyncio.run(
                latency({"endpoint": model, "server": server}, given.rate, given.seconds, given.block)
            )
            report["streams"] = asyncio.run(streams(server, pid))
    print(json.dumps(report, indent=1))
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
