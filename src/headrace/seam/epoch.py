"""What an epoch is: a stretch of generations that are streamed with the same code, from the same origins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec


@dataclass(frozen=True, slots=True)
class Epoch:
    """``origins`` {lane: offset} are where its streaming begins (a lane that is not named begins at 0); ``size`` is the
    number of records of a range; ``code`` hashes what decides the rows of the speed path: contracts, SQL, the versions
    ``references`` {source: version of its silver} that are joined, and the ``voids`` {lane: [(first, end)]} that are
    neither counted nor looked at for duplicates. What becomes void later does so with the next epoch."""

    number: int
    size: int
    code: str = ""
    origins: Mapping[str, int] = field(default_factory=dict)
    references: Mapping[str, int] = field(default_factory=dict)
    voids: Mapping[str, Sequence[Sequence[int]]] = field(default_factory=dict)

    def origin(self, lane: str) -> int:
        return self.origins.get(lane, 0)

    def text(self) -> str:
        return _encode(self).decode()


def read(text: str) -> Epoch:
    """The inverse of ``Epoch.text``."""
    return _decode(text)


_encode = msgspec.json.Encoder(order="sorted").encode
_decode = msgspec.json.Decoder(Epoch).decode


def control_name(number: int) -> str:
    """The name of an epoch's control row."""
    return f"epoch/{number}"


def progress_name(number: int, lane: str) -> str:
    """The control row that says how far all speed rows of a lane have been acknowledged: the highest value stands."""
    return f"progress/{number}/{lane}"


def attempted_name(number: int, lane: str) -> str:
    """The control row in which a worker that fails says how far its rows may reach beyond progress. The highest stands."""
    return f"attempted/{number}/{lane}"


def checkpoint_name(number: int, lane: str) -> str:
    """The control row that says where a worker starts again: the end of the last whole range. The highest stands."""
    return f"checkpoint/{number}/{lane}"
