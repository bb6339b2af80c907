"""What a Log promises, as tests."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

from headrace.errors import OutsideError
from headrace.model.source import Source
from headrace.ports import Engine, Feed, Log
from headrace.testing.parallel import error_of


class LogSuite:
    """``open(place)`` opens a log with its engine; ``source`` is one that it has lanes of, and whose records have a column
    ``n``; ``arrive`` makes the records with these numbers arrive, in this order within each lane."""

    def open(self, place: Path) -> tuple[Log, Engine]:
        raise NotImplementedError

    def source(self, place: Path) -> Source:
        raise NotImplementedError

    def arrive(self, place: Path, numbers: range) -> None:
        raise NotImplementedError

    def all_of(self, place: Path, log: Log, engine: Engine) -> dict[str, list[tuple[int, int]]]:
        """By lane, (offset, n) of every record, read in pieces."""
        source, found = self.source(place), {}
        for lane, (first, end) in log.lanes(source).items():
            rows: list[tuple[int, int]] = []
            while first < end:
                arrival = log.read(source, lane, first, min(first + 7, end))
                assert first < arrival.end <= end
                rows += self.rows(engine, arrival.relation, first, arrival.end)
                first = arrival.end
            found[lane] = rows
        return found

    def rows(self, engine: Engine, relation: str, first: int, end: int) -> list[tuple[int, int]]:
        sql = (
            f"SELECT _offset, CAST(n AS BIGINT) FROM {relation} WHERE _offset >= {first} AND _offset < {end} ORDER BY 1"
        )
        return [(int(offset), int(n)) for offset, n in engine.rows(sql)]

    def given(self, engine: Engine, feed: Feed, at: dict[str, int], *, patience: float = 30.0) -> list[int]:
        """What a feed gives until it has given all; ``at`` is where its lanes are, and goes on."""
        found, deadline = [], time.monotonic() + patience
        while time.monotonic() < deadline:
            arrivals = feed.poll(0.1)
            for arrival in arrivals:
                found += [n for _, n in self.rows(engine, arrival.relation, at[arrival.lane], arrival.end)]
                at[arrival.lane] = arrival.end
            if not arrivals and feed.is_caught_up:
                break
        return found

    def test_every_record_is_in_one_lane_at_one_offset(self, tmp_path: Path) -> None:
        log, engine = self.open(tmp_path)
        self.arrive(tmp_path, range(50))
        before = self.all_of(tmp_path, log, engine)
        assert sorted(n for rows in before.values() for _, n in rows) == list(range(50))
        self.arrive(tmp_path, range(50, 80))
        after = self.all_of(tmp_path, log, engine)
        assert sorted(n for rows in after.values() for _, n in rows) == list(range(80))
        for lane, rows in before.items():
            assert after[lane][: len(rows)] == rows, "what was there stays where it was"
            assert [n for _, n in after[lane]] == sorted(n for _, n in after[lane]), "a lane keeps the order of arrival"

    def test_reading_ends_where_it_is_told_to_and_where_the_lane_ends(self, tmp_path: Path) -> None:
        log, engine = self.open(tmp_path)
        self.arrive(tmp_path, range(40))
        source = self.source(tmp_path)
        lane, (first, end) = max(log.lanes(source).items(), key=lambda found: found[1][1])
        assert log.read(source, lane, first, first + 3).end == first + 3
        assert log.read(source, lane, first, end + 1000).end == end
        nothing = log.read(source, lane, end, end + 1000)
        assert nothing.end == end
        assert self.rows(engine, nothing.relation, end, end + 1000) == []

    def test_records_say_what_they_are(self, tmp_path: Path) -> None:
        log, engine = self.open(tmp_path)
        self.arrive(tmp_path, range(5))
        source = self.source(tmp_path)
        for lane, (first, end) in log.lanes(source).items():
            arrival = log.read(source, lane, first, end)
            for found, file, row, error in engine.rows(f"SELECT _lane, _file, _row, _error FROM {arrival.relation}"):
                assert (found, error) == (lane, None)
                assert file
                assert row >= 1

    def test_a_feed_gives_everything_from_where_it_was_asked_to(self, tmp_path: Path) -> None:
        log, engine = self.open(tmp_path)
        self.arrive(tmp_path, range(30))
        source = self.source(tmp_path)
        at: dict[str, int] = {}

        def start(lane: str, first: int) -> int:
            at[lane] = first
            return first

        with closing(log.feed("all", [source], start)) as feed:
            assert sorted(self.given(engine, feed, at)) == list(range(30))
            assert set(feed.lanes) == set(log.lanes(source))
            time.sleep(0.3)  # whatever a feed took ahead is from before
            self.arrive(tmp_path, range(30, 45))
            assert sorted(self.given(engine, feed, at)) == list(range(30, 45)), "caught up is said of what is there now"
        ends = {lane: end for lane, (_, end) in log.lanes(source).items()}

        def late(lane: str, _: int) -> int:
            at[lane] = ends[lane]
            return ends[lane]

        with closing(log.feed("all", [source], late)) as again:
            assert self.given(engine, again, at) == [], "whoever asks from the end on gets nothing before it"

    def test_a_mark_is_of_one_record_and_stays_its_own(self, tmp_path: Path) -> None:
        log, engine = self.open(tmp_path)
        self.arrive(tmp_path, range(30))
        source = self.source(tmp_path)
        marks: dict[str, list[str]] = {}
        feed = log.feed("marked", [source], lambda _, first: first)
        at, deadline = {lane: first for lane, (first, _) in log.lanes(source).items()}, time.monotonic() + 30
        while not (feed.is_caught_up and marks) and time.monotonic() < deadline:
            for arrival in feed.poll(0.1):
                offsets = [offset for offset, _ in self.rows(engine, arrival.relation, at[arrival.lane], arrival.end)]
                found = [feed.mark(arrival.lane, offset + 1) for offset in offsets]
                for offset, mark in zip(offsets, found, strict=True):
                    assert not mark or int(mark.partition(".")[0]) <= offset, "of a record before the end"
                if found and found[-1]:
                    assert int(found[-1].partition(".")[0]) == offsets[-1], "at the end of an arrival it is the last"
                marks.setdefault(arrival.lane, []).extend(found)
                at[arrival.lane] = arrival.end
        feed.close()
        self.arrive(tmp_path, range(30, 40))
        assert sum(map(len, marks.values())) == 30
        for lane, found in marks.items():
            known = [mark for mark in found if mark]  # a log that uses no offset twice has none
            assert not any(" " in mark for mark in known)
            assert all(log.keeps(source, lane, mark) for mark in known), "whatever came since"

    def test_a_lane_that_is_not_there_is_not_made_up(self, tmp_path: Path) -> None:
        log, _ = self.open(tmp_path)
        self.arrive(tmp_path, range(3))
        source = self.source(tmp_path)
        error = error_of(lambda: log.read(source, f"{source.name}#gone/0", 0, 10))
        if error is None:
            assert log.read(source, f"{source.name}#gone/0", 0, 10).end == 0
        else:
            assert isinstance(error, OutsideError)
            assert error.code == "HR0411"
