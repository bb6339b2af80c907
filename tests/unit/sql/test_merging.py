"""Stored rows are added in Python as the lake adds them in SQL."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.adapters.duckdb_engine import DuckDBEngine
from headrace.model.mart import Part
from headrace.model.types import Type, parse_type
from headrace.sql.gold import merge_sql, stored_part
from headrace.sql.merging import merging


def type_of(text: str) -> Type:
    found = parse_type(text)
    assert found is not None
    return found


NUMBER = st.integers(-(10**6), 10**6)
CENTS = NUMBER.map(lambda n: f"{n / 100:.2f}")
TEXT = st.text('abc \u00e9"\\\\', max_size=3)
DAY = st.dates().map(lambda d: d.isoformat())
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "BIGINT": NUMBER, "DECIMAL(18,2)": CENTS, "DECIMAL(20,0)": NUMBER.map(str), "VARCHAR": TEXT, "DATE": DAY, "BOOLEAN": st.booleans(),
    "DOUBLE": NUMBER.map(lambda n: n / 8),
}  # fmt: skip
PLAIN = [
    *((merge, name) for merge in ("min", "max") for name in VALUES if name != "BOOLEAN"),
    ("sum", "BIGINT"), ("sum", "DECIMAL(18,2)"), ("sum", "DECIMAL(20,0)"), ("bool_or", "BOOLEAN"), ("bool_and", "BOOLEAN"),
]  # fmt: skip
ENGINE = DuckDBEngine(memory="128MB", threads=1)


def literal(value: Any) -> str:
    return "NULL" if value is None else "'" + str(value).replace("'", "''") + "'"


def in_the_lake(part: Part, values: Sequence[str]) -> Any:
    """What the lake makes of values (SQL texts), as the stored value of it."""
    rows = " UNION ALL ".join(f"SELECT {value} AS x" for value in values)
    return ENGINE.rows(f"SELECT {stored_part(part, merge_sql(part, 'x'))} FROM ({rows})")[0][0]


def in_python(part: Part, values: Sequence[str]) -> Any:
    merge = merging(0, [part])
    stored = [(ENGINE.rows(f"SELECT {stored_part(part, value)}")[0][0], 1) for value in values]
    merged, count = functools.reduce(merge, stored)
    assert count == len(values)
    return merged


@pytest.mark.parametrize(("merge", "type"), PLAIN)
@settings(deadline=None)
@given(data=st.data())
def test_plain_parts(merge: Any, type: str, data: st.DataObject) -> None:
    part = Part("x", merge, "", type_of(type))
    values = data.draw(st.lists(st.none() | VALUES[type], min_size=1, max_size=4))
    texts = [f"CAST({literal(v)} AS {type})" for v in values]
    assert in_python(part, texts) == in_the_lake(part, texts)


@pytest.mark.parametrize("type", ["BIGINT", "VARCHAR", "DATE"])
@settings(deadline=None)
@given(data=st.data())
def test_sets(type: str, data: st.DataObject) -> None:
    part = Part("x", "set", "", Type("LIST", item=type_of(type)))
    lists = data.draw(st.lists(st.lists(VALUES[type], max_size=3, unique=True).map(sorted), min_size=1, max_size=4))
    texts = [f"CAST([{', '.join(literal(v) for v in values)}] AS {type}[])" for values in lists]
    assert in_python(part, texts) == in_the_lake(part, texts)


@pytest.mark.parametrize("merge", ["arg_min", "arg_max"])
@pytest.mark.parametrize("by", ["BIGINT", "DECIMAL(18,2)", "VARCHAR", "DATE"])
@settings(deadline=None)
@given(data=st.data())
def test_ordered_parts(merge: Any, by: str, data: st.DataObject) -> None:
    part = Part("x", merge, "", type_of("DECIMAL(18,2)"), type_of(by))
    drawn = data.draw(
        st.lists(
            st.none() | st.tuples(VALUES[by], st.sampled_from("ab"), st.integers(0, 3), st.none() | CENTS),
            min_size=1, max_size=4, unique_by=lambda v: v and v[1:3],
        )
    )  # fmt: skip
    texts = [
        f"CAST(NULL AS {part.lake_type})" if v is None
        else f"CAST({{'k': {literal(v[0])}, 'lane': '{v[1]}', 'offset': {v[2]}, 'v': {literal(v[3])}}} AS {part.lake_type})"
        for v in drawn
    ]  # fmt: skip
    assert in_python(part, texts) == in_the_lake(part, texts)


def test_a_row_keeps_its_key_and_adds_its_records(tmp_path: Path) -> None:
    merge = merging(2, [Part("n", "sum", "", type_of("BIGINT"))])
    assert merge(("a", "d", 1, 2), ("a", "d", None, 3)) == ("a", "d", 1, 5)
