"""cluster: what the nodes of a store are, and what among their settings and clocks could harm what is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headrace.model.cluster import LiveNode
from headrace.ports import Inspect

SKEW = 1.0
"""Seconds by which clocks may differ before doctor says so. No answer depends on them; logs and people do."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that doctor looked at."""

    check: str
    ok: bool
    found: str
    help: str = ""


def examined(inspect: Inspect) -> list[Finding]:
    """What is to be said of a cluster's nodes, versions, replication, guardrails, clocks, and of a write at a timestamp."""
    nodes = inspect.nodes()
    down = [node.address for node in nodes if not node.up]
    versions = sorted({node.version for node in nodes if node.up})
    schemas = {node.schema for node in nodes if node.up}
    wrong = inspect.probe()
    return [
        Finding(
            "nodes",
            not down,
            f"{len(nodes) - len(down)} of {len(nodes)} up" + (f"; down: {', '.join(down)}" if down else ""),
            "`headrace cluster status`; with 3 replicas answers go on while one is down",
        ),
        Finding("versions", len(versions) <= 1, ", ".join(versions), "finish the upgrade: one version on all nodes"),
        Finding(
            "schema", len(schemas) <= 1, f"{len(schemas)} version(s)", "nodetool describecluster; restart who differs"
        ),
        replication(inspect.keyspace(), nodes),
        guardrails(nodes),
        clocks(nodes),
        Finding(
            "timestamps",
            not wrong,
            wrong or "a cell written at a timestamp has that timestamp",
            "no guardrail on timestamps, and MODIFY on the keyspace: `headrace plan --role`",
        ),
    ]


def replication(found: Mapping[str, str] | None, nodes: Sequence[LiveNode]) -> Finding:
    if found is None:
        return Finding("replication", ok=True, found="no keyspace yet: headrace apply makes it")
    kind = found.get("class", "").rpartition(".")[2]
    counts = {name: int(n) for name, n in found.items() if name != "class" and n.isdigit()}
    said = f"{kind}, " + ", ".join(f"{n} in {name}" for name, n in counts.items())
    many = {name: sum(node.datacenter == name for node in nodes) for name in counts}
    lost = [name for name, n in counts.items() if name in many and n > many[name]]
    if lost:
        return Finding(
            "replication",
            ok=False,
            found=f"{said}: more than {lost[0]} has nodes",
            help="ALTER KEYSPACE, then nodetool repair",
        )
    ok = kind == "NetworkTopologyStrategy" and (len(nodes) < 3 or min(counts.values(), default=0) >= 3)
    return Finding(
        "replication", ok, said, "NetworkTopologyStrategy with 3 replicas: ALTER KEYSPACE, then nodetool repair"
    )


def guardrails(nodes: Sequence[LiveNode]) -> Finding:
    """Our timestamps are generations and offsets: far below what a clock says, and a guardrail may take that for a fault."""
    said = sorted(
        {
            f"{name} = {value}"
            for node in nodes
            for name, value in node.settings.items()
            if "timestamp" in name or ("consistency" in name and "QUORUM" in value)
        }
    )
    told = any(node.settings for node in nodes if node.up)
    return Finding(
        "guardrails",
        not said,
        "; ".join(said) or ("none on timestamps" if told else "the nodes do not tell"),
        "take minimum_timestamp_*, maximum_timestamp_* and the ban of LOCAL_QUORUM out of cassandra.yaml",
    )


def clocks(nodes: Sequence[LiveNode]) -> Finding:
    ahead = {node.address: node.skew for node in nodes if node.up}
    doubt = max((node.doubt for node in nodes if node.up), default=0.0)
    worst = max(ahead, key=lambda name: abs(ahead[name]), default="")
    apart = max(map(abs, ahead.values()), default=0.0)
    said = f"{worst} {ahead[worst]:+.3f} s of ours, give or take {doubt:.3f}" if worst else "no node to ask"
    return Finding("clocks", apart - doubt <= SKEW, said, "no answer depends on them, but logs do: look at NTP")


def status(inspect: Inspect) -> dict[str, Any]:
    """Of each datacenter its replicas and nodes, with the part of all tokens that each keeps a replica of; what is down,
    and what that means."""
    nodes, owned = inspect.nodes(), inspect.ring().owned()
    replicated = dict(inspect.keyspace() or {})
    kind = replicated.pop("class", "").rpartition(".")[2]
    schemas = {node.schema for node in nodes if node.up}
    datacenters: dict[str, Any] = {}
    health: list[str] = []
    for name in sorted({node.datacenter for node in nodes}):
        own = [node for node in nodes if node.datacenter == name]
        count = replicated.get(name) or replicated.get("replication_factor") or "0"
        replicas = int(count.partition("/")[0])
        down = [node.address for node in own if not node.up]
        datacenters[name] = {
            "replicas": replicas,
            "nodes": [
                {
                    "node": node.address,
                    "status": "up" if node.up else "down",
                    "load": node.load,
                    "tokens": node.tokens or None,
                    "owns": owned.get(node.address, 0.0),
                    "rack": node.rack,
                    "version": node.version or None,
                    "schema": node.schema[:8] or None,
                    "clock": f"{node.skew:+.3f} s" if node.up else None,
                    "hints": node.hints,
                    "said": node.said or None,
                }
                for node in own
            ],
        }
        health.append(verdict(name, replicas, len(own), down))
    if len(schemas) > 1:
        health.append(f"the nodes have {len(schemas)} versions of the schema: wait, then nodetool describecluster")
    return {
        "keyspace": inspect.space,
        "strategy": kind or None,
        "datacenters": datacenters,
        "down": [node.address for node in nodes if not node.up],
        "health": health,
    }


def verdict(datacenter: str, replicas: int, nodes: int, down: Sequence[str]) -> str:
    """What the nodes that are down mean for reads and writes by LOCAL_QUORUM."""
    if not replicas:
        return f"{datacenter}: no replicas of the keyspace"
    spare = replicas - (replicas // 2 + 1)
    if not down:
        return f"{datacenter}: all {nodes} node(s) up; answers and writes go on with {spare} down"
    said = f"{datacenter}: {', '.join(down)} down"
    if len(down) <= spare:
        return f"{said}; answers and writes go on, and with {spare - len(down)} more down"
    return f"{said}; rows of which {spare + 1} or more replicas are down are neither answered nor written (HR0424)"
