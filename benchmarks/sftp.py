"""Suite ``sftp``: listing and downloading over SFTP, against OpenSSH's own client, on one server in one run."""

from __future__ import annotations

import json
import random
import shutil
import sys
from pathlib import Path

from benchmarks.measure import Result, run_command
from tools import services

SHAPES = {"one file of 256 MiB": (1, 256 << 20), "1,000 files of 10 kB": (1000, 10_000)}


def suite(work: Path, rounds: int) -> Result:
    result = Result("sftp")
    target = work / "sftp-downloads"
    with services.sftp() as server:
        known = server.folder / "known_hosts"
        known.write_text(f"[127.0.0.1]:{server.port} {server.host_key}\n")
        peer = ["sftp", "-q", "-b", str(server.folder / "batch"), "-i", str(server.key), "-P", str(server.port)]
        peer += ["-o", f"UserKnownHostsFile={known}", "-o", "IdentitiesOnly=yes", f"{server.user}@127.0.0.1"]
        for shape, (count, size) in SHAPES.items():
            server.clear()
            noise = random.Random(1).randbytes(1 << 20)
            for n in range(count):
                (server.upload / f"f_{n:04}.csv").write_bytes((noise * (size // len(noise) + 1))[:size])
            (server.folder / "batch").write_text(f"get /upload/*.csv {target}\n")
            ours = [sys.executable, "-m", "benchmarks.sftp", server.address, server.host_key, str(server.key)]
            names = {f"headrace, {shape}": ours, f"sftp get, {shape}": peer}
            result.runs |= {name: [] for name in names}
            for _ in range(rounds):
                for name, command in names.items():
                    shutil.rmtree(target, ignore_errors=True)
                    target.mkdir()
                    result.runs[name].append(run_command(command))
                if sum(f.stat().st_size for f in target.iterdir()) != count * size:
                    raise SystemExit("sftp get did not bring every byte")
            reports = [r.report for r in result.runs[f"headrace, {shape}"]]
            if {(r["files"], r["bytes"]) for r in reports} != {(count, count * size)}:
                raise SystemExit("the inbox did not give every byte")
            rate = sorted(r["files"] / r["seconds"] for r in reports)[len(reports) // 2]
            speed = sorted(r["bytes"] / r["seconds"] for r in reports)[len(reports) // 2] / 1e6
            result.ratio(f"{shape}: time of sftp get / time of the inbox", f"sftp get, {shape}", f"headrace, {shape}")
            result.notes.append(
                f"{shape}, listing and reading without the start: {rate:,.1f} files/s, {speed:,.0f} MB/s"
            )
        shutil.rmtree(target)
    result.notes.append("the inbox lists, checks each file before and after, and holds it in memory; sftp writes files")
    return result


def main(url: str, host_key: str, key: str) -> None:
    """Reads everything from a server, and reports what it was."""
    import time

    from headrace.adapters.sftp_inbox import SftpInbox

    inbox = SftpInbox(url=url, host_key=host_key, key=Path(key).read_text("utf-8"))
    started = time.perf_counter()
    sizes = [len(inbox.read(file)) for file in inbox.list("*.csv")]
    seconds = time.perf_counter() - started
    print(json.dumps({"files": len(sizes), "bytes": sum(sizes), "seconds": seconds}))


if __name__ == "__main__":
    main(*sys.argv[1:])
