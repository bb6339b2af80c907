"""monitor export: what Prometheus and Grafana need to watch a project, as files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from headrace.model.project import LoadedProject
from headrace.ops.dashboards import DASHBOARDS, DATASOURCE, dashboard
from headrace.ops.rules import Pace, duration, rules
from headrace.ops.trials import trials
from headrace.ops.yaml import dumped

KINDS = ("serve", "stream", "run", "land", "cassandra", "scylla")
"""What can be scraped; each is a job of its own."""
RUNBOOKS = "docs/monitoring.md"
KEY = "serve.key"
HEAD = "Written by `headrace monitor export` of the project {project}: change what it declares, and export again."
PROVISIONED = "/etc/grafana/provisioning/dashboards"


def export(
    project: LoadedProject, folder: Path, targets: Mapping[str, Sequence[str]], pace: Pace, runbooks: str = RUNBOOKS
) -> list[Path]:
    """Writes all files, and gives their paths below ``folder``. ``targets`` are host:port by one of KINDS."""
    head = HEAD.format(project=project.name)
    files = {
        "prometheus/prometheus.yml": dumped(scraping(project, targets, pace), head),
        "prometheus/rules.yml": dumped(rules(project, pace, runbooks), head),
        "prometheus/rules_test.yml": dumped(
            trials(project, pace, runbooks, "rules.yml"), f"{head}\npromtool test rules rules_test.yml"
        ),
        "cassandra/exporter.yaml": Path(__file__).with_name("cassandra_exporter.yaml").read_text("utf-8"),
        "grafana/provisioning/datasources/headrace.yaml": dumped(datasources(), head),
        "grafana/provisioning/dashboards/headrace.yaml": dumped(provider(), head),
    }
    for each in DASHBOARDS:
        name = f"grafana/provisioning/dashboards/{project.name}-{each.name}.json"
        files[name] = json.dumps(dashboard(each, project.name), indent=1, ensure_ascii=False) + "\n"
    for name, text in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
    return [Path(name) for name in files]


def scraping(project: LoadedProject, targets: Mapping[str, Sequence[str]], pace: Pace) -> dict[str, Any]:
    """Prometheus's own configuration. The label ``project`` is what rules and dashboards go by."""
    jobs = []
    for kind in KINDS:
        if not targets.get(kind):
            continue
        job: dict[str, Any] = {"job_name": kind}
        if kind == "serve":
            job["authorization"] = {"type": "Bearer", "credentials_file": KEY}
        job["static_configs"] = [{"targets": list(targets[kind]), "labels": {"project": project.name}}]
        jobs.append(job)
    interval = duration(pace.interval)
    return {
        "global": {"scrape_interval": interval, "evaluation_interval": interval},
        "rule_files": ["rules.yml"],
        "scrape_configs": jobs,
    }


def datasources() -> dict[str, Any]:
    return {
        "apiVersion": 1,
        "datasources": [
            {
                "name": "Prometheus of Headrace",
                "uid": DATASOURCE["uid"],
                "type": DATASOURCE["type"],
                "access": "proxy",
                "url": "http://127.0.0.1:9090",
            }
        ],
    }


def provider() -> dict[str, Any]:
    return {
        "apiVersion": 1,
        "providers": [
            {"name": "headrace", "folder": "Headrace", "type": "file", "options": {"path": PROVISIONED}},
        ],
    }
