"""Declare a metric once in SQL; get the batch path, the speed path, the serving table, the API and the page from it."""

from headrace.declare.builder import Project, bar, csv, jsonl, line, number, parquet, status, table
from headrace.declare.routes import Routes, column, given, now, parameter, rows
from headrace.flow.samples import Samples

__version__ = "0.1.0"

__all__ = [
    "Project", "Routes", "Samples", "bar", "column", "csv", "given", "jsonl", "line", "now", "number", "parameter", "parquet",
    "rows", "status", "table",
]  # fmt: skip
