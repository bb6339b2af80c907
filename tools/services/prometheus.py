"""Prometheus with a configuration of the test's own."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tools.services.jars import program
from tools.services.process import Server, free_port, running

EMPTY = "scrape_configs: []\n"


class Prometheus(Server):
    """Prometheus; ``address`` is its URL. It goes by ``config``, a prometheus.yml."""

    def __init__(self, folder: Path, port: int, **given: Any) -> None:
        super().__init__("prometheus", folder, port, address=f"http://127.0.0.1:{port}", **given)
        self.program = program("prometheus", "prometheus")
        program("promtool", "prometheus")
        self.config = folder / "config" / "prometheus.yml"
        self.config.parent.mkdir(parents=True, exist_ok=True)
        if not self.config.exists():
            self.config.write_text(EMPTY, "utf-8")

    def command(self) -> list[str]:
        return [
            self.program,
            f"--config.file={self.config}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]

    def ready(self, log: str) -> bool:
        return "Server is ready to receive web requests" in log

    def watch(self, config: Path) -> None:
        """Goes on by another prometheus.yml; what it has seen so far it keeps."""
        self.stop()
        self.config = config
        self.start()

    def get(self, path: str, **parameters: str) -> Any:
        """What an address of its API has to say: https://prometheus.io/docs/prometheus/latest/querying/api/."""
        url = f"{self.address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=30) as response:  # noqa: S310 - our own server
            return json.load(response)["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples of an expression now, each with ``metric`` and ``value``."""
        found: list[dict[str, Any]] = self.get("query", query=expression)["result"]
        return found

    def firing(self) -> set[tuple[str, str]]:
        """Name and severity of each alert that fires."""
        alerts = self.get("alerts")["alerts"]
        return {(a["labels"]["alertname"], a["labels"]["severity"]) for a in alerts if a["state"] == "firing"}

    def wait_for(self, what: Any, seconds: float = 60.0) -> None:
        """Returns once ``what`` of this server is true."""
        until = time.monotonic() + seconds
        while not what(self):
            if time.monotonic() > until:
                raise TimeoutError(f"not within {seconds:.0f} s; what fires: {self.firing()}")
            time.sleep(0.1)


def promtool(*words: str) -> subprocess.CompletedProcess[str]:
    """What promtool says of rules and configurations."""
    command = [program("promtool", "prometheus"), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@contextmanager
def prometheus(folder: Path | None = None, *, port: int = 0) -> Iterator[Prometheus]:
    """A Prometheus that scrapes nothing yet."""
    with running("prometheus", folder, lambda place, given: Prometheus(place, port or free_port(), **given)) as server:
        yield server
