"""What some callers may ask about only: some values of a parameter. All others become a key that no row has."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from headrace.flow.relations import JUDGED, VERDICTS
from headrace.http.problems import Refusal
from headrace.model.project import LoadedProject
from headrace.sql.query import Fetch, Plan, Query

NOBODY = secrets.token_hex(16)
"""The key that no row has: made anew for each process, so that none can be made to have it. One for all values that are
not the caller's, so that what is read does not depend on them at all."""
READABLE = ("/v1/queries", "/openapi.json", "/docs", "/health/live", "/health/ready")
READABLE_BELOW = ("/docs/", "/static/")


class Right:
    """Some values of some parameters, and nothing else. A question must be bound by all of these parameters."""

    def __init__(self, only: Mapping[str, Iterable[str]]) -> None:
        self._only = {name: frozenset(values) for name, values in only.items()}
        said = msgspec.json.encode(sorted((name, sorted(values)) for name, values in self._only.items()))
        self.digest = hashlib.blake2b(said, digest_size=16).digest()
        """Tells apart the answers that callers of different rights get to one question."""

    def must_fit(self, query: str, *bound: frozenset[str]) -> None:
        """Raises Refusal 403 HR0602 where each of these ways to answer reads what the right does not bound."""
        if not self._only or not any(self._only.keys() <= names for names in bound):
            raise self.refusal(f"query '{query}' reads more than that")

    def must_read(self, path: str) -> None:
        """Raises Refusal 403 HR0602 for a path that tells of others, or may."""
        if path not in READABLE and not path.startswith(READABLE_BELOW):
            raise self.refusal("this path tells of others")

    def refusal(self, why: str) -> Refusal:
        names = " and ".join(f"'{name}'" for name in sorted(self._only)) or "nothing"
        what = f"this login is for some values of {names} only, and {why}"
        return Refusal(403, "HR0602", what, help="ask a query for those values: /v1/queries")

    def keys(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values by which partitions are fetched: NOBODY for each that is not the caller's."""
        keys = dict(values)
        for name, own in self._only.items():
            value = keys[name]
            if isinstance(value, list):
                keys[name] = [one if one in own else NOBODY for one in value]
            else:
                keys[name] = value if value in own else NOBODY
        return keys


def bound(project: LoadedProject, query: Query, plan: Plan) -> frozenset[str]:
    """The parameters that bound all that a plan reads: each picks the keys of what is about the thing that it names, and
    the rest, as prices are, rests on other records."""
    texts = [p.name for p in query.parameters if p.type.name == "VARCHAR"]
    return frozenset(name for name in texts if _is_bound(project, plan, name))


def bounding(project: LoadedProject) -> set[str]:
    """The parameters that a right can be about."""
    queries = project.queries.values()
    return {name for query in queries for plan in query.plans.values() for name in bound(project, query, plan)}


def _is_bound(project: LoadedProject, plan: Plan, name: str) -> bool:
    fetches: tuple[Plan | Fetch, ...] = (plan, *plan.others)
    columns = {column for fetch in fetches for column in _picked(fetch, name)}
    facts: set[str] = set()
    others = [look.table.origin for look in plan.lookups if not look.of_rows]
    for fetch in fetches:
        if _picked(fetch, name):
            facts |= {r for r in _upstream(project, fetch.table.origin) if _is_fact(project, r)}
        else:
            others.append(fetch.table.origin)
    told = {relation for other in others for relation in _upstream(project, other)}
    return bool(columns) and not told & facts and not any(_columns(project, r) & {name, *columns} for r in told)


def _picked(fetch: Plan | Fetch, name: str) -> set[str]:
    """The text columns of the partition that are the parameter's value."""
    return {c.name for c in fetch.table.partition if c.type.name == "VARCHAR" and fetch.picked.get(c.name) == name}


def _upstream(project: LoadedProject, name: str) -> set[str]:
    """A relation and all that it is made of."""
    read = project.marts.get(name) or project.datasets.get(name)
    if read is not None:
        return {name}.union(*(_upstream(project, i) for i in read.inputs if i != name))
    return {name, *project.sources} if name == VERDICTS else {name.removesuffix(JUDGED)}


def _is_fact(project: LoadedProject, name: str) -> bool:
    return name in project.sources and project.sources[name].role == "fact"


def _columns(project: LoadedProject, name: str) -> set[str]:
    mart = project.marts.get(name)
    if mart is not None:
        return {*(c.name for c in mart.grain), *(m.name for m in mart.measures)}
    relation = project.datasets.get(name) or project.sources.get(name)
    return {c.name for c in relation.columns} if relation is not None else set()
