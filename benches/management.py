#!/usr/bin/env python3
"""Latency of `POST /api/v1/events` while clients page through the management API.

    python3 benches/management.py URL KEY [SECONDS] [CLIENTS]

Publishes 2,000 events a second in an open loop: latency counts from the scheduled time. The clients run in a process of
their own with the lowest priority. The server must run on this machine; `hooktide bench --keep` makes a data folder.
"""

import asyncio
import http.client
import json
import multiprocessing
import os
import sys
import threading
import time
from urllib.parse import urlsplit

RATE, CONNECTIONS = 2_000, 32
BODY = json.dumps({"type": "bench.event", "data": {"x": "a" * 100}}).encode()


def page(host, port, key, seconds, clients):
    """Pages through deep lists, metrics and statistics until the time is over."""
    os.nice(19)
    end, counts = time.time() + seconds, [0] * clients

    def run(n):
        connection = http.client.HTTPConnection(host, port, timeout=30)

        def get(path):
            connection.request("GET", path, headers={"authorization": f"Bearer {key}"})
            response = connection.getresponse()
            body = response.read()
            assert response.status == 200, (path, response.status)
            counts[n] += 1
            return body

        webhooks = [webhook["id"] for webhook in json.loads(get("/api/v1/webhooks?limit=50"))["data"]]
        others = [f"/api/v1/webhooks/{webhook}/metrics" for webhook in webhooks[:1]]
        others += ["/api/v1/stats", "/metrics", "/api/v1/deliveries?limit=250&q=zzz&status=delivered"]
        cursor = None
        while time.time() < end:
            cursor = json.loads(get("/api/v1/deliveries?limit=250" + (f"&cursor={cursor}" if cursor else "")))["next_cursor"]
            get(others[n % len(others)])

    threads = [threading.Thread(target=run, args=(n,)) for n in range(clients)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    print(f"pages: {sum(counts)}")


async def publish(host, port, key, seconds):
    """Answers the latencies of accepted events in milliseconds, sorted."""
    head = f"POST /api/v1/events HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {key}\r\n"
    request = f"{head}content-type: application/json\r\ncontent-length: {len(BODY)}\r\n\r\n".encode() + BODY
    latencies, start = [], time.perf_counter() + 0.2

    async def run(n):
        reader, writer = await asyncio.open_connection(host, port)
        for at in range(n, int(seconds * RATE), CONNECTIONS):
            due = start + at / RATE
            await asyncio.sleep(max(0, due - time.perf_counter()))
            writer.write(request)
            response = (await reader.readuntil(b"\r\n\r\n")).lower()
            assert response.startswith(b"http/1.1 202"), response
            await reader.readexactly(int(response.split(b"content-length: ")[1].split(b"\r\n")[0]))
            latencies.append((time.perf_counter() - due) * 1_000)
        writer.close()

    await asyncio.gather(*(run(n) for n in range(CONNECTIONS)))
    return sorted(latencies)


def main():
    url, key, *rest = sys.argv[1:]
    seconds, clients = float(rest[0]) if rest else 6, int(rest[1]) if len(rest) > 1 else 8
    host, port = urlsplit(url).hostname, urlsplit(url).port
    pager = multiprocessing.Process(target=page, args=(host, port, key, seconds + 2, clients))
    pager.start()
    time.sleep(1)
    latencies = asyncio.run(publish(host, port, key, seconds))
    pager.join()
    for share in (0.5, 0.95, 0.99, 0.999):
        print(f"ack p{share * 100:g}: {latencies[int(len(latencies) * share)]:.2f} ms")


if __name__ == "__main__":
    main()
