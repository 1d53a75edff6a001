"""A server under load: jobs an hour, how long one takes, and whether memory grows.

Usage: python benchmarks/server_load.py [--jobs 200] [--clients 4] [--output FILE]

Each client sends a job (one second of speech, 256 px, a portrait by its id), follows its events to the end,
fetches the video and deletes it, again and again. Latency is from the request to the last byte of the video.
Memory is the server's resident set after each job: growth is from the median of the second tenth to that of
the last. The status is 1 if a job fails, a video is not whole, something stays on the disk, or memory grows
by more than one in a hundred (from 100 jobs on).
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tempfile
import time
import urllib.request
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
from harness import append, record, rounded, summary
from mesh_latency import write_speech
from served import Served, serve
from soak import MAX_GROWTH, tenths

FRAMES = 24
FEWEST_FOR_GROWTH = 100


def main() -> int:
    """Load the server, print, keep a record if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--running", type=int, default=2, help="jobs the server runs at the same time")
    parser.add_argument("--output", type=Path, help="file of records to append to")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, serve("--max-running", str(args.running)) as server:
        write_speech(Path(folder) / "speech.wav", 1.0)
        speech = b64encode((Path(folder) / "speech.wav").read_bytes()).decode()
        portrait_id = server.add_portrait()
        resident: list[int] = []

        def work(number: int) -> float:
            latency_s = one_job(server, portrait_id, speech, number)
            resident.append(server.resident_bytes())
            return latency_s

        work(0)
        resident.clear()
        started_s, cpu_s = time.perf_counter(), server.cpu_s()
        with ThreadPoolExecutor(args.clients) as pool:
            latencies_s = list(pool.map(work, range(1, args.jobs + 1)))
        wall_s, cpu_s = time.perf_counter() - started_s, server.cpu_s() - cpu_s
        left = json.loads(server.get("/v1/videos"))["videos"]
    medians = tenths(resident)
    growth = medians[-1] / medians[1] - 1
    entry = rounded(
        record(
            "server_load",
            engine="mesh",
            params={"jobs": args.jobs, "clients": args.clients, "running": args.running, "duration_s": 1},
            latency_s={name: value for name, value in summary(latencies_s).items() if name != "samples"},
            figures={"jobs_an_hour": 3600 * args.jobs / wall_s, "cpu_s_a_job": cpu_s / args.jobs},
            resident_bytes={"second_tenth": medians[1], "last_tenth": medians[-1], "most": max(resident)},
            growth=growth,
        )
    )
    shown = {name: entry[name] for name in ("latency_s", "figures", "resident_bytes", "growth")}
    print(json.dumps(shown, indent=1))
    if args.output:
        append(args.output, entry)
    return 1 if left or (args.jobs >= FEWEST_FOR_GROWTH and growth > MAX_GROWTH) else 0


def one_job(server: Served, portrait_id: str, speech: str, seed: int) -> float:
    """Have a video made, fetched and deleted; return the seconds to its last byte. It has to be whole."""
    started_s = time.perf_counter()
    job = server.post(
        "/v1/videos", portrait_id=portrait_id, speech_base64=speech, size_px=256, preset="excited", seed=seed
    )
    events = server.get(job["events_url"]).decode()
    last = json.loads(events.rsplit("data: ", 1)[1].split("\n")[0])
    assert last["state"] == "done", last
    content = server.get(last["video_url"])
    latency_s = time.perf_counter() - started_s
    with av.open(io.BytesIO(content)) as container:
        assert sum(1 for _ in container.decode(video=0)) == FRAMES
    delete = urllib.request.Request(f"{server.address}/v1/videos/{job['id']}", method="DELETE")
    urllib.request.urlopen(delete, timeout=60).close()
    return latency_s


if __name__ == "__main__":
    sys.exit(main())
