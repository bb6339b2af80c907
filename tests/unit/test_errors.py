"""Errors come whole out of another process."""

from __future__ import annotations

import pickle

import pytest

from headrace import errors
from headrace.errors import HeadraceError, OutsideError, ParameterError, Place, ProjectErrors

MADE: list[HeadraceError] = [
    OutsideError("HR0407", "gone", retry=True, place=Place("a.sql", 3), help="look"),
    ParameterError("HR0502", "wrong", parameter="day"),
    ProjectErrors([errors.DeclarationError("HR0201", "no such column", place=Place("b.sql", 1, 2))]),
    errors.NotReadyError("HR0402", "not yet", retry_after=7),
    errors.MissingExtraError("kafka", "a log", "confluent-kafka"),
]


@pytest.mark.parametrize("error", MADE, ids=lambda error: type(error).__name__)
def test_an_error_survives_the_way_to_another_process(error: HeadraceError) -> None:
    came: HeadraceError = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (type(came), str(came), came.code, came.what, came.help) == (
        type(error), str(error), error.code, error.what, error.help,
    )  # fmt: skip
    assert {k: repr(v) for k, v in vars(came).items()} == {k: repr(v) for k, v in vars(error).items()}
