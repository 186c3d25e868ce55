"""What the proxy adds to a chat completion: the same open-loop load on the endpoint itself and through the server.

    python benchmarks/proxy_latency.py --endpoint http://127.0.0.1:8000/v1 --server http://127.0.0.1:8787/v1 --rate 100 --seconds 30

Requests to both go out at fixed times, answered earlier ones or not; each names one of 50 users and says
something new. Printed are milliseconds: percentiles of both, and the difference of the percentiles.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from uuid import uuid4

import aiohttp

USERS = 50


async def one(session: aiohttp.ClientSession, url: str, number: int, took: list[float], failed: list[int]) -> None:
    """Send a request and note how long its answer took, in milliseconds."""
    words = f"Request {uuid4().hex}: what shall I cook for dinner tonight?"
    body = {"model": "tiny", "user": f"user{number % USERS}", "messages": [{"role": "user", "content": words}]}
    started = time.perf_counter()
    async with session.post(f"{url}/chat/completions", json=body) as response:
        await response.read()
        (failed.append(response.status) if response.status != 200 else took.append((time.perf_counter() - started) * 1000))


async def load(urls: dict[str, str], rate: float, seconds: float) -> dict[str, object]:
    """Return what was measured, by name."""
    took: dict[str, list[float]] = {name: [] for name in urls}
    failed: dict[str, list[int]] = {name: [] for name in urls}
    tasks = []
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        begin = time.perf_counter()
        for number in range(round(rate * seconds)):
            await asyncio.sleep(max(0.0, begin + number / rate - time.perf_counter()))
            tasks += [asyncio.create_task(one(session, url, number, took[name], failed[name])) for name, url in urls.items()]
        await asyncio.gather(*tasks)
    report: dict[str, object] = {}
    for name, values in took.items():
        cuts = statistics.quantiles(values, n=100, method="inclusive")
        report[name] = {
            "requests": len(values),
            "failed": len(failed[name]),
            "p50_ms": cuts[49],
            "p95_ms": cuts[94],
            "p99_ms": cuts[98],
        }
    return report


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--server", required=True)
    parser.add_argument("--rate", type=float, default=100.0, help="requests a second, to each")
    parser.add_argument("--seconds", type=float, default=30.0)
    given = parser.parse_args()
    report = asyncio.run(load({"endpoint": given.endpoint, "server": given.server}, given.rate, given.seconds))
    raw, through = report["endpoint"], report["server"]
    assert isinstance(raw, dict) and isinstance(through, dict)
    report["added"] = {name: through[name] - raw[name] for name in ("p50_ms", "p95_ms", "p99_ms")}
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
