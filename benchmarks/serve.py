"""`fieldmark serve` under load: what it can do, beside a bare loop; 80 % of that for a while; five times as much.

    python benchmarks/serve.py runs/birds photographs/                      # half a minute each
    python benchmarks/serve.py runs/birds photographs/ --seconds 600        # the long one

Three phases, with the bytes of up to 200 files:

1. capacity: as many clients as fill batches ask one picture after the other. Beside it, in turns and in this process
   while the service rests, a bare loop over the same bytes: decode and cut 16 pictures, show them to the same engine,
   make verdicts. The ratio of the medians is the price of HTTP and the queue.
2. steady: pictures arrive at random moments (a Poisson process), at 80 % of the capacity, whether or not others were
   answered. Every answer is compared with the bare loop's; the resident memory of the service is read throughout.
3. overload: five times the capacity arrives. What is answered must be in time, everything else 429 or 503; then a
   single visitor asks until he is answered as quickly as before.

The load comes from this process, on the same machine: with few cores both share them, and the capacity is what is left.
So the processor time of an answer is told as well: of the service, of the clients, and of the bare loop.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fieldmark.answering.predictor import Predictor
from fieldmark.answering.stream import stream
from fieldmark.answering.things import Thing
from fieldmark.answering.verdicts import Speaker
from fieldmark.data.scan import scan

BATCH, CLIENTS, ROUNDS = 16, 32, 3
DEADLINE = 10.0


@dataclass
class Seen:
    """What came of requests."""

    statuses: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    """Of those that were answered with 200."""
    wrong: int = 0
    unanswered: Counter[str] = field(default_factory=Counter)
    """Requests that ended without a status, by what happened."""

    def as_dict(self) -> dict[str, Any]:
        times = sorted(self.seconds) or [0.0]
        return {
            "statuses": {str(status): number for status, number in sorted(self.statuses.items())},
            "unanswered": dict(self.unanswered),
            "wrong": self.wrong,
            "median_ms": round(1000 * statistics.median(times), 1),
            "p99_ms": round(1000 * times[int(0.99 * (len(times) - 1))], 1),
            "longest_ms": round(1000 * times[-1], 1),
        }


class Client:
    """Asks over connections that it keeps."""

    def __init__(self, port: int, pictures: Sequence[bytes], expected: Sequence[str]) -> None:
        self.port, self.pictures, self.expected = port, pictures, expected
        self._free: list[tuple[float, asyncio.StreamReader, asyncio.StreamWriter]] = []
        """Connections that are open, and since when each is idle."""

    async def ask(self, number: int, seen: Seen) -> None:
        """Ask about a picture, and note what came of it."""
        begun = time.perf_counter()
        try:
            status, body = await self._request(self.pictures[number])
        except (OSError, asyncio.IncompleteReadError, ValueError) as error:
            seen.unanswered[type(error).__name__] += 1
            return
        seen.statuses[status] += 1
        if status == 200:
            seen.seconds.append(time.perf_counter() - begun)
            seen.wrong += json.loads(body)["label"] != self.expected[number]

    async def _request(self, picture: bytes) -> tuple[int, bytes]:
        reader, writer = self._kept() or await asyncio.open_connection("127.0.0.1", self.port)
        head = f"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(picture)}\r\n\r\n"
        writer.write(head.encode() + picture)
        told = (await reader.readuntil(b"\r\n\r\n")).lower()
        status = int(told.split()[1])
        (length,) = re.findall(rb"content-length: (\d+)", told)
        body = await reader.readexactly(int(length))
        if b"connection: close" in told:
            writer.close()
        else:
            self._free.append((time.perf_counter(), reader, writer))
        return status, body

    def _kept(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        """A connection that the service has not closed for being idle, which it does after five seconds."""
        while self._free:
            since, reader, writer = self._free.pop()
            if time.perf_counter() - since < 3:
                return reader, writer
            writer.close()
        return None

    async def closed_loop(self, seconds: float) -> float:
        """Pictures a second when so many clients ask one after the other."""
        seen, until = Seen(), time.perf_counter() + seconds

        async def one(start: int) -> None:
            number = start
            while time.perf_counter() < until:
                await self.ask(number % len(self.pictures), seen)
                number += 1
                if seen.statuses.total() > seen.statuses[200]:  # a machine that is busy elsewhere: no more than it can
                    await asyncio.sleep(0.1)

        begun = time.perf_counter()
        await asyncio.gather(*(one(7 * start) for start in range(CLIENTS)))
        return seen.statuses[200] / (time.perf_counter() - begun)

    async def open_loop(self, rate: float, seconds: float, seen: Seen) -> set[asyncio.Task[None]]:
        """Let pictures arrive at random moments, `rate` a second on average; those that are not answered at the end."""
        chance, begun, at, tasks = random.Random(0), time.perf_counter(), 0.0, set[asyncio.Task[None]]()
        while (at := at + chance.expovariate(rate)) < seconds:
            await asyncio.sleep(max(0.0, begun + at - time.perf_counter()))
            task = asyncio.create_task(self.ask(chance.randrange(len(self.pictures)), seen))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        return tasks


def bare_loop(predictor: Predictor, pictures: Sequence[bytes], seconds: float) -> tuple[float, list[str]]:
    """Pictures a second without HTTP and queue, and the labels."""
    speaker, labels, done = Speaker.of(predictor.bundle), list[str](), 0
    things, begun = [Thing("a picture", data) for data in pictures], time.perf_counter()
    while not labels or time.perf_counter() - begun < seconds:
        labels = []
        for answered in stream(things, predictor.see, predictor.engine, batch_size=BATCH):
            assert answered.output is not None
            verdicts = speaker.verdicts([thing.name for thing in answered.things], answered.output)
            labels += [one.label for one in verdicts]
            done += len(verdicts)
    return done / (time.perf_counter() - begun), labels


def resident(process: int) -> int:
    """Bytes of memory that a process has."""
    (kilobytes,) = re.findall(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    return int(kilobytes) * 1024


async def watched(client: Client, rate: float, seconds: float, process: int, seen: Seen) -> list[int]:
    """An open loop, and the memory of the service every second."""
    memory = [resident(process)]
    load = asyncio.create_task(client.open_loop(rate, seconds, seen))
    while not load.done():
        await asyncio.sleep(1)
        memory.append(resident(process))
    await asyncio.gather(*await load)
    return memory


async def recovered(client: Client, usual: float) -> float:
    """Seconds until a single visitor is answered as quickly as twice the `usual` time."""
    begun = time.perf_counter()
    while True:
        seen = Seen()
        await client.ask(0, seen)
        if seen.seconds and seen.seconds[0] < 2 * usual:
            return time.perf_counter() - begun
        await asyncio.sleep(0.05)


async def alone(client: Client) -> float:
    """The median seconds of an answer when nobody else asks."""
    seen = Seen()
    for number in range(20):
        await client.ask(number % len(client.pictures), seen)
    return statistics.median(seen.seconds)


def processor_seconds(process: int) -> float:
    """What a process has computed so far, with all its threads."""
    user, system = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


async def measured(run: Path, client: Client, process: int, arguments: argparse.Namespace) -> dict[str, Any]:
    predictor, each = Predictor.load(run), min(60.0, arguments.seconds) / (2 * ROUNDS)
    served, bare, spent = [], [], []
    for _ in range(ROUNDS):  # in turns, since a machine changes
        begun = processor_seconds(process), time.process_time()
        served.append(await client.closed_loop(each))
        middle = processor_seconds(process), time.process_time()
        bare.append(bare_loop(predictor, client.pictures, each)[0])
        answers = served[-1] * each
        spent.append([
            (middle[0] - begun[0]) / answers,
            (middle[1] - begun[1]) / answers,
            (time.process_time() - middle[1]) / (bare[-1] * each),
        ])  # fmt: skip
    capacity, usual = statistics.median(served), await alone(client)
    steady, overload = Seen(), Seen()
    memory = await watched(client, 0.8 * capacity, arguments.seconds, process, steady)
    left = await client.open_loop(5 * capacity, min(30.0, arguments.seconds), overload)
    recovery = await recovered(client, usual)
    await asyncio.gather(*left)
    warm = max(memory[: max(2, len(memory) // 10)])
    return {
        "capacity": round(capacity, 1),
        "bare_loop": round(statistics.median(bare), 1),
        "ratio": round(capacity / statistics.median(bare), 3),
        "ratios": [round(one / other, 3) for one, other in zip(served, bare, strict=True)],
        "processor_ms": {
            name: round(1000 * statistics.median(values), 1)
            for name, values in zip(("service", "clients", "bare_loop"), zip(*spent, strict=True), strict=True)
        },
        "alone_ms": round(1000 * usual, 1),
        "steady": steady.as_dict() | {"seconds": arguments.seconds, "memory_growth": round(memory[-1] / warm - 1, 4)},
        "overload": overload.as_dict() | {"late": sum(one > DEADLINE for one in overload.seconds)},
        "recovered_s": round(recovery, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("photographs", type=Path)
    parser.add_argument(
        "--seconds", type=float, default=30.0, help="of each phase; the capacity takes 60 at most, the overload 30"
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "serve.json")
    arguments = parser.parse_args()
    paths = scan(arguments.photographs).paths
    chosen = paths[:: max(1, len(paths) // 200)][:200]
    pictures = [(arguments.photographs / path).read_bytes() for path in chosen]
    _, expected = bare_loop(Predictor.load(arguments.run), pictures, 0)
    command = [sys.executable, "-m", "fieldmark", "serve", str(arguments.run), "--port", "0"]
    with subprocess.Popen([*command, "--deadline", str(DEADLINE)], stderr=subprocess.PIPE, text=True) as service:
        assert service.stderr is not None
        (port,) = re.findall(r":(\d+)/", service.stderr.readline())
        client = Client(int(port), pictures, expected)
        try:
            found = asyncio.run(measured(arguments.run, client, service.pid, arguments))
        finally:
            service.terminate()
    found |= {"pictures": len(pictures), "mean_kb": round(sum(map(len, pictures)) / len(pictures) / 1000, 1)}
    arguments.out.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
