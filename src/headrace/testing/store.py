"""What a Store promises, as tests."""

from __future__ import annotations

import datetime as dt
import itertools
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from headrace.model.mart import Part
from headrace.model.serving import ServingTable, bucket_of
from headrace.model.types import Column, Type
from headrace.ports import Store
from headrace.testing.parallel import in_processes, in_threads

Row = tuple[Any, ...]
TEXT, INTEGER, INSTANT, DOUBLE = Type("VARCHAR"), Type("BIGINT"), Type("TIMESTAMPTZ"), Type("DOUBLE")

SALES = ServingTable(
    "sales_1",
    "sales",
    True,
    (Column("shop", TEXT, False),),
    (Column("day", TEXT, False), Column("hour", INTEGER, False)),
    (Part("revenue", "sum", "sum(amount)", Type("DECIMAL", 18, 2)), Part("visits", "sum", "count(*)", INTEGER)),
)
NO_PARTITION = ServingTable(
    "all_1", "all", True, (), (Column("day", TEXT, False),), (Part("n", "sum", "count(*)", INTEGER),)
)
NO_CLUSTERING = ServingTable(
    "one_1", "one", True, (Column("shop", TEXT, False),), (), (Part("n", "sum", "count(*)", INTEGER),)
)
NO_KEY = ServingTable("total_1", "total", True, (), (), (Part("n", "sum", "count(*)", INTEGER),))
TYPES = ServingTable(
    "types_1",
    "types",
    True,
    (Column("name", TEXT, False), Column("number", INTEGER, False), Column("flag", Type("BOOLEAN"), False)),
    (Column("moment", INSTANT, False),),
    (Part("text", "max", "", TEXT), Part("share", "max", "", DOUBLE), Part("whole", "max", "", INTEGER)),
)


BY_DAY, BY_MOMENT = (
    ServingTable(
        f"cut_by_{name}_0123abcd",
        "cut",
        True,
        (Column("shop", TEXT, False),),
        (Column(name, type, False), Column("n", INTEGER, False)),
        (Part("visits", "sum", "count(*)", INTEGER),),
    )
    for name, type in (("day", Type("DATE")), ("moment", INSTANT))
)


def sale(
    shop: str, day: str, hour: int, revenue: str | None, visits: int | None, *, slot: int = 0, gen: int = 1
) -> Row:
    return (shop, day, hour, revenue, visits, 1, slot, gen)


class StoreSuite:
    """``open(place)`` opens a store; the same place is the same store, also from another process. A new place is empty."""

    def open(self, place: Path) -> Store:
        raise NotImplementedError

    # Control rows

    def test_a_control_row_is_none_until_it_is_written(self, tmp_path: Path) -> None:
        store = self.open(tmp_path)
        assert store.control("pointer") is None
        store.set_control("pointer", "a")
        assert store.control("pointer") == "a"
        assert store.control("Pointer") is None

    def test_a_control_row_is_seen_by_others_and_may_be_written_again(self, tmp_path: Path) -> None:
        store = self.open(tmp_path)
        for text in ("a", "a", 'ü "quoted"\n' + "long " * 10_000):
            store.set_control("generation/1", text)
            assert self.open(tmp_path).control("generation/1") == text

    def test_control_rows_are_read_together(self, tmp_path: Path) -> None:
        store = self.open(tmp_path)
        for name in ("a", "b", "c"):
            store.set_control(name, name.upper())
        assert store.controls(["c", "none", "a"]) == ["C", None, "A"]
        assert store.controls([]) == []

    def test_compare_and_set_writes_an_absent_row_once(self, tmp_path: Path) -> None:
        store = self.open(tmp_path)
        assert store.compare_and_set("pointer", None, "a") is True
        assert store.compare_and_set("pointer", None, "b") is False
        assert store.control("pointer") == "a"

    def test_compare_and_set_replaces_what_it_was_shown_and_nothing_else(self, tmp_path: Path) -> None:
        store = self.open(tmp_path)
        assert store.compare_and_set("pointer", "a", "b") is False, "there is no row"
        assert store.control("pointer") is None
        store.compare_and_set("pointer", None, "a")
        assert store.compare_and_set("pointer", "b", "c") is False
        assert store.control("pointer") == "a"
        assert store.compare_and_set("pointer", "a", "c") is True
        assert store.compare_and_set("other", "c", "d") is False
        assert store.control("pointer") == "c"

    def test_of_many_threads_one_wins_each_compare_and_set(self, tmp_path: Path) -> None:
        store = self.open(tmp_path)
        won = in_threads(6, lambda _: self.count_up(store, 25))
        assert store.control("counter") == str(sum(won))

    def test_of_many_processes_one_wins_each_compare_and_set(self, tmp_path: Path) -> None:
        won = in_processes(self.count_up_elsewhere, [(tmp_path, 40)] * 3)
        assert self.open(tmp_path).control("counter") == str(sum(won))

    def count_up_elsewhere(self, place: Path, tries: int) -> int:
        return self.count_up(self.open(place), tries)

    @staticmethod
    def count_up(store: Store, tries: int) -> int:
        """Adds one to a control row ``tries`` times; gives how often that was done."""
        won = 0
        for _ in range(tries):
            old = store.control("counter")
            won += store.compare_and_set("counter", old, str(int(old or 0) + 1))
        return won

    # Writing rows

    def test_rows_come_back_whole_and_others_see_them(self, tmp_path: Path) -> None:
        store = self.open(tmp_path)
        store.create(SALES)
        assert (
            store.put(SALES, iter([sale("cpt", "2024-01-01", 7, "10.00", 2), sale("cpt", "2024-01-01", 8, None, None)]))
            == 2
        )
        found = [("cpt", "2024-01-01", 7, "10.00", 2, 1, 0, 1), ("cpt", "2024-01-01", 8, None, None, 1, 0, 1)]
        assert [tuple(row) for row in self.open(tmp_path).fetch(SALES, ("cpt",))] == found

    def test_putting_nothing_is_fine(self, tmp_path: Path) -> None:
        store = self.open(tmp_path)
        store.create(SALES)
        assert store.put(SALES, []) == 0
        assert list(store.fetch(SALES, ("cpt",))) == []

    def test_creating_again_keeps_the_rows(self, tmp_path: Path) -> None:
        store = self.open(tmp_path)
        store.create(SALES)
        store.put(SALES, [sale("cpt", "2024-01-01", 7, "10.00", 2)])
        store.create(SALES)
        self.open(tmp_path).create(SALES)
        assert len(store.fetch(SALES, ("cpt",))) == 1

    def test_the_highest_generation_stands_in_whatever_order_and_however_often_it_is_written(
        self, tmp_path: Path
    ) -> None:
        store = self.open(tmp_path)
        store.create(SALES)
        for number, order in enumerate(itertools.permutations([2, 9, 10])):
            rows = [
                sale(f"shop{number}", "d", 0, str(gen), None if gen == 10 else gen, gen=gen)
                for gen in (*order, order[0])
            ]
            for row in rows:
                store.put(SALES, [row])
            assert [tuple(r) for r in store.fetch(SALES, (f"shop{number}",))] == [
                (f"shop{number}", "d", 0, "10", None, 1, 0, 10)
            ], order

    def test_slots_and_keys_do_not_disturb_each_other(self, tmp_path: Path) -> None:
        store = self.open(tmp_path)
        store.create(SALES)
        store.put(SALES, [sale("cpt", "d", 0, "5", 5, slot=0, gen=5), sale("cpt", "d", 1, "5", 5, slot=1, gen=5)])
        store.put(SALES, [sale("cpt", "d", 0, "3", 3, slot=1, gen=3), sale("cpt", "d", 1, "3", 3, slot=1, gen=3)])
        assert [(r[2], r[3], r[-2], r[-1]) for r in store.fetch(SALES, ("cpt",))] == [
            (0, "5", 0, 5),
            (0, "3", 1, 3),
            (1, "5", 1, 5),
        ]

    def test_an_emptied_row_is_a_row(self, tmp_path: Path) -> None:
        store = self.open(tmp_path)
        store.create(SALES)
        store.put(SALES, [sale("cpt", "d", 0, "5", 5)])
        store.put(SALES, [("cpt", "d", 0, None, None, 0, 0, 2)])
        assert [tuple(r) for r in store.fetch(SALES, ("cpt",))] == [("cpt", "d", 0, None, None, 0, 0, 2)]

    def test_many_rows_go_in_one_put(self, tmp_path: Path) -> None:
        store = self.open(tmp_path)
        store.create(NO_PARTITION)
        assert store.put(NO_PARTITION, ((f"{i:06}", i, 1, 0, 1) for i in range(25_000))) == 25_000
        assert [r[1] for r in store.fetch(NO_PARTITION, ())] == list(range(25_000))

    def test_of_writers_at_once_the_highest_generation_stands(self, tmp_path: Path) -> None:
        store = self.open(tmp_path)
        store.create(NO_PARTITION)
        keys = [f"{i:03}" for i in range(40)]

        def write(gen: int) -> None:
            for key in random.Random(gen).sample(keys, len(keys)):
                store.put(NO_PARTITION, [(key, gen, 1, 0, gen)])

        in_threads(6, lambda number: write(number + 1))
        assert [tuple(r) for r in store.fetch(NO_PARTITION, ())] == [(key, 6, 1, 0, 6) for key in keys]

    def test_readers_are_not_stopped_by_a_writer(self, tmp_path: Path) -> None:
        store = self.open(tmp_path)
        store.create(NO_PARTITION)

        def work(number: int) -> int:
            if number == 0:
                for gen in range(1, 40):
                    store.put(NO_PARTITION, [(f"{i:04}", gen, 1, 0, gen) for i in range(300)])
                store.set_control("done", "yes")
                return 0
            seen, until = 0, time.monotonic() + 30
            while store.control("done") is None and time.monotonic() < until:
                newest = max((r[-1] for r in store.fetch(NO_PARTITION, ())), default=0)
                assert newest >= seen, "what was read once is not unread"
                seen = newest
            return seen

        in_threads(3, work)
        assert {r[-1] for r in store.fetch(NO_PARTITION, ())} == {39}

    # Reading rows

    def test_a_partition_is_read_alone(self, tmp_path: Path) -> None:
        store = self.open(tmp_path)
        store.create(SALES)
        store.put(SALES, [sale(shop, "d", hour, "1", 1) for shop in ("a", "ab", "A", "") for hour in range(3)])
        assert [r[0] for r in store.fetch(SALES, ("a",))] == ["a"] * 3
        assert [r[0] for r in store.fetch(SALES, ("",))] == [""] * 3
        assert list(store.fetch(SALES, ("b",))) == []

    def test_keys_of_every_kind_come_back_as_they_were(self, tmp_path: Path) -> None:
        store = self.open(tmp_path)
        store.create(TYPES)
        names = ["", "it's", 'a "b"', "ü\u4e2d\U0001f30a", "a;b--c", "%_", " x "]
        rows: list[Row] = [
            (n, i, i % 2, -(10**15) + i, None if i else n, i / 7, 2**63 - 1 - i, 1, 0, 1) for i, n in enumerate(names)
        ]
        rows.append(("low", -(2**63), 1, 0, "x", -1e300, -(2**63), 1, 1, 7))
        store.put(TYPES, rows)
        for row in rows:
            assert [tuple(r) for r in store.fetch(TYPES, row[:3])] == [row]

    def test_text_is_ordered_by_its_characters(self, tmp_path: Path) -> None:
        store = self.open(tmp_path)
        store.create(NO_PARTITION)
        days = ["10", "9", "Z", "a", "\u00e9", "\u4e2d", ""]
        store.put(NO_PARTITION, [(day, 1, 1, 0, 1) for day in days])
        assert [r[0] for r in store.fetch(NO_PARTITION, ())] == sorted(days, key=lambda t: t.encode())

    def test_a_table_may_have_one_row_a_partition_or_one_row(self, tmp_path: Path) -> None:
        store = self.open(tmp_path)
        for table in (NO_CLUSTERING, NO_KEY):
            store.create(table)
        store.put(NO_CLUSTERING, [("a", 1, 1, 0, 1), ("a", 2, 1, 1, 2), ("b", 3, 1, 0, 1)])
        assert [tuple(r) for r in store.fetch(NO_CLUSTERING, ("a",))] == [("a", 1, 1, 0, 1), ("a", 2, 1, 1, 2)]
        store.put(NO_KEY, [(1, 1, 0, 1)])
        store.put(NO_KEY, [(2, 1, 1, 2)])
        store.put(NO_KEY, [(3, 1, 0, 3)])
        assert [tuple(r) for r in store.fetch(NO_KEY, ())] == [(3, 1, 0, 3), (2, 1, 1, 2)]

    def test_every_fetch_gives_what_its_description_says(self, tmp_path: Path) -> None:
        store = self.open(tmp_path)
        store.create(SALES)
        rnd = random.Random(7)
        days = [f"2024-01-0{i}" for i in range(1, 7)]
        rows = {
            (shop, day, hour, slot): sale(
                shop, day, hour, f"{rnd.random():.2f}", rnd.randrange(9), slot=slot, gen=rnd.randint(1, 9)
            )
            for shop in ("a", "b")
            for day in days
            for hour in (-1, 0, 5)
            for slot in (0, 1)
            if rnd.random() < 0.7
        }
        store.put(SALES, rows.values())
        for _ in range(300):
            low, high = (rnd.choice([None, None, *days, "2023", "2024-01-03x", "2025"]) for _ in range(2))
            bounds = (low, rnd.random() < 0.5, high, rnd.random() < 0.5)
            after = rnd.choice([None, (rnd.choice(days), rnd.choice([-1, 0, 3, 5]))])
            reverse, limit = rnd.random() < 0.5, rnd.choice([None, 1, 2, 5, 1000])
            asked = {"reverse": reverse, "after": after, "limit": limit}
            found = store.fetch(SALES, ("a",), bounds, reverse=reverse, after=after, limit=limit)
            wanted = expected(rows.values(), "a", bounds, reverse, after, limit)
            assert [_unslotted(r) for r in found] == [_unslotted(r) for r in wanted], (bounds, asked)

    def test_partitions_that_are_not_cut_give_what_is_asked(self, tmp_path: Path) -> None:
        self.buckets_change_no_answer(self.open(tmp_path), "")

    def test_partitions_cut_by_month_answer_alike(self, tmp_path: Path) -> None:
        self.buckets_change_no_answer(self.open(tmp_path), "month")

    def test_partitions_cut_by_day_answer_alike(self, tmp_path: Path) -> None:
        self.buckets_change_no_answer(self.open(tmp_path), "day")

    def test_salted_partitions_answer_alike(self, tmp_path: Path) -> None:
        self.buckets_change_no_answer(self.open(tmp_path), "salt 4")

    def buckets_change_no_answer(self, store: Store, bucket: str) -> None:
        """However partitions are cut: fetches, pages, walks and removals give what they give of partitions that are not."""
        rnd = random.Random(8)
        for kind, shape in (("DATE", BY_DAY), ("TIMESTAMPTZ", BY_MOMENT)):
            table = shape.kept(bucket_of(bucket))
            store.create(table)
            days = [dt.date(1969, 11, 1) + dt.timedelta(rnd.randrange(200)) for _ in range(40)]
            days += [dt.date(9999, 12, 31), dt.date(1, 1, 1)]
            values = [
                day.isoformat()
                if kind == "DATE"
                else (day.toordinal() - 719163) * 86_400_000_000 + rnd.randrange(10**6)
                for day in days
            ]
            rows = {
                (shop, value, n): (shop, value, n, rnd.randrange(9), 1)
                for shop in "ab" for value in values for n in rnd.sample(range(-2, 5), 3)
            }  # fmt: skip
            written = [
                (*row, slot, 1 + slot) for row in rows.values() for slot in ((0, 1) if rnd.random() < 0.5 else (1,))
            ]
            rnd.shuffle(written)
            store.put(table, written)
            ends = sorted({row[1] for row in written if not str(row[1]).startswith(("0001", "9999"))})[1:-1]
            inside = [(low, rnd.random() < 0.5, high, rnd.random() < 0.5) for low in ends[::9] for high in ends[::7]]
            for bounds in inside:
                for reverse in (False, True):
                    found = store.fetch(table, ("a",), bounds, reverse=reverse)
                    wanted = expected(written, "a", bounds, reverse, None, None)
                    assert [tuple(r) for r in found] == wanted
                    after, limit = (tuple(wanted[len(wanted) // 2][1:3]) if wanted else None), rnd.randrange(1, 12)
                    found = store.fetch(table, ("a",), bounds, reverse=reverse, after=after, limit=limit)
                    assert [tuple(r) for r in found] == expected(written, "a", bounds, reverse, after, limit)
            walked = [tuple(row) for batch in store.walk(table) for row in batch]
            assert sorted(walked) == sorted(written)
            together = [row[:3] for row in walked]
            assert len(list(itertools.groupby(together))) == len(set(together)), "rows of a key follow one another"
            self.speed_rows_in_buckets(store, table, [row[:5] for row in written], ends)
            floor = ends[len(ends) // 2]
            store.put(table, [(*written[0][:5], 0, 9)])  # which a later generation wrote
            store.clear_below(table, table.clustering[0].name, floor, 3)
            left = {tuple(row) for batch in store.walk(table) for row in batch if row[-1] != 9}
            above: Any = floor
            assert left == {row for row in written if row[1] >= above and row != (*written[0][:5], 0, 1)}
            store.clear_below(table, "n", 2, 3)
            assert all(row[2] >= 2 or row[-1] == 9 for batch in store.walk(table) for row in batch)

    def speed_rows_in_buckets(self, store: Store, table: ServingTable, rows: list[Row], ends: list[Any]) -> None:
        for start, lane in itertools.product((100, 200), "xy"):
            store.put_speed(table, 7, lane, start, start + 5, rows)
        bounds = (ends[1], True, ends[-2], True)
        inside = sorted({row for row in rows if row[0] == "a" and ends[1] <= row[1] <= ends[-2]})
        found = [tuple(row) for row in store.fetch_speed(table, ("a",), bounds, epoch=7)]
        assert found == [(*row, lane, start) for row in inside for lane in "xy" for start in (100, 200)]
        store.clear_speed(table, 7, {"x": 200})
        left = {row[-3:] for batch in store.walk_speed(table, 7) for row in batch}
        assert left == {("x", 200, 205), ("y", 100, 105), ("y", 200, 205)}
        store.clear_speed(table, 7, None)
        assert not [row for batch in store.walk_speed(table, 7) for row in batch]

    def test_pages_by_after_and_limit_give_every_row_once(self, tmp_path: Path) -> None:
        store = self.open(tmp_path)
        store.create(SALES)
        store.put(SALES, [sale("a", f"d{i // 3}", i % 3, "1", i, slot=slot) for i in range(20) for slot in (0, 1)])
        for reverse in (False, True):
            seen: list[Row] = []
            after: Row | None = None
            while page := store.fetch(SALES, ("a",), reverse=reverse, after=after, limit=4):
                seen += [tuple(r) for r in page]
                after = tuple(page[-1][1:3])
            assert len(seen) == len(set(seen)) == 40

    # Reads that are held together

    def test_what_is_held_ends_with_release(self, tmp_path: Path) -> None:
        store, other = self.open(tmp_path), self.open(tmp_path)
        store.create(SALES)
        store.put(SALES, [sale("a", "d", 0, "1", 1)])
        store.set_control("pointer", "1")
        for _ in range(2):
            store.hold()
            assert store.control("pointer") == "1"
            assert [r[-1] for r in store.fetch(SALES, ("a",))] == [1]
        other.put(SALES, [sale("a", "d", 0, "2", 2, gen=2)])
        other.set_control("pointer", "2")
        seen = store.control("pointer"), [r[-1] for r in store.fetch(SALES, ("a",))]
        assert seen in (("1", [1]), ("2", [2]))
        store.release()
        assert store.control("pointer") == "2"
        assert [r[-1] for r in store.fetch(SALES, ("a",))] == [2]
        store.release()

    def test_who_writes_holds_no_longer(self, tmp_path: Path) -> None:
        store, other = self.open(tmp_path), self.open(tmp_path)
        store.set_control("x", "1")
        store.hold()
        assert store.control("x") == "1"
        other.set_control("x", "2")
        assert store.compare_and_set("x", "2", "3")
        assert store.control("x") == "3"

    def test_threads_hold_for_themselves(self, tmp_path: Path) -> None:
        store = self.open(tmp_path)
        store.set_control("x", "0")

        def work(number: int) -> None:
            for i in range(20):
                if number == 0:
                    store.set_control("x", str(i))
                else:
                    store.hold()
                    assert store.control("x") is not None
                    store.release()

        in_threads(4, work)

    # Control rows that only rise, and speed rows

    def test_the_highest_value_of_a_control_row_stands(self, tmp_path: Path) -> None:
        store = self.open(tmp_path)
        for value, text in ((9, "a"), (10, "b"), (2, "late"), (10, "again")):
            store.raise_control("progress", value, text)
        assert store.control("progress") == "10 b"

        def race(number: int) -> None:
            for i in range(10):
                store.raise_control("raced", number * 10 + i)

        in_threads(4, race)
        assert (store.control("raced") or "").split() == ["39"]

    def test_of_two_speed_rows_the_one_that_counted_further_stands(self, tmp_path: Path) -> None:
        store = self.open(tmp_path)
        store.create(SALES)
        early, late = ("a", "d1", 0, "1.00", 1, 1), ("a", "d1", 0, "3.00", 3, 3)
        assert store.put_speed(SALES, 4, "till/0", 100, 130, iter([late])) == 1
        store.put_speed(SALES, 4, "till/0", 100, 110, [early])
        store.put_speed(SALES, 4, "till/0", 100, 130, [late])
        assert [tuple(r) for r in self.open(tmp_path).fetch_speed(SALES, ("a",), epoch=4)] == [(*late, "till/0", 100)]

    def test_speed_rows_are_told_apart_by_epoch_lane_and_range(self, tmp_path: Path) -> None:
        store = self.open(tmp_path)
        store.create(SALES)
        row = ("a", "d1", 0, None, None, 1)
        for epoch, lane, start in ((4, "x", 100), (4, "x", 200), (4, "y", 100), (5, "x", 100)):
            store.put_speed(SALES, epoch, lane, start, start + 1, [row])
        found = [tuple(r[-2:]) for r in store.fetch_speed(SALES, ("a",), epoch=4)]
        assert sorted(found) == [("x", 100), ("x", 200), ("y", 100)]
        assert [tuple(r[-2:]) for r in store.fetch_speed(SALES, ("a",), epoch=5)] == [("x", 100)]
        assert list(store.fetch_speed(SALES, ("b",), epoch=4)) == []
        assert list(store.fetch(SALES, ("a",))) == [], "they are no batch rows"

    def test_speed_rows_of_a_range_come_in_key_order(self, tmp_path: Path) -> None:
        store = self.open(tmp_path)
        store.create(SALES)
        rows = [("a", f"d{day}", hour, None, None, 1) for day in range(5) for hour in (2, 0, 1)]
        store.put_speed(SALES, 1, "x", 0, 9, rows)
        found = [r[1:3] for r in store.fetch_speed(SALES, ("a",), ("d1", True, "d3", False), epoch=1)]
        assert found == [("d1", 0), ("d1", 1), ("d1", 2), ("d2", 0), ("d2", 1), ("d2", 2)]
        after = [r[1:3] for r in store.fetch_speed(SALES, ("a",), ("d3", False, None, True), epoch=1)]
        assert after == [("d4", 0), ("d4", 1), ("d4", 2)]

    def test_speed_rows_are_cleared_below_an_offset_of_their_lane(self, tmp_path: Path) -> None:
        store = self.open(tmp_path)
        store.create(SALES)
        row = ("a", "d1", 0, None, None, 1)
        for epoch, lane, start in ((4, "x", 100), (4, "x", 200), (4, "y", 100), (5, "x", 100)):
            store.put_speed(SALES, epoch, lane, start, start + 1, [row])
        store.clear_speed(SALES, 4, {"x": 200, "z": 999})
        assert sorted(tuple(r[-2:]) for r in store.fetch_speed(SALES, ("a",), epoch=4)) == [("x", 200), ("y", 100)]
        store.clear_speed(SALES, 4, None)
        store.clear_speed(SALES, 4, None)
        assert list(store.fetch_speed(SALES, ("a",), epoch=4)) == []
        assert [tuple(r[-2:]) for r in store.fetch_speed(SALES, ("a",), epoch=5)] == [("x", 100)]
        store.drop(SALES.name)
        store.create(SALES)
        assert list(store.fetch_speed(SALES, ("a",), epoch=5)) == []

    def test_rows_below_a_value_of_their_key_are_cleared(self, tmp_path: Path) -> None:
        store = self.open(tmp_path)
        for table in (SALES, NO_PARTITION, TYPES):
            store.create(table)
        days = [f"2024-01-0{n}" for n in range(1, 6)]
        store.put(SALES, [sale(shop, d, n, "1", 1, slot=n % 2) for shop in "ab" for d in days for n in range(3)])
        store.put(NO_PARTITION, [(d, 1, 1, 0, 1) for d in days])
        store.put(TYPES, [(d, n, 0, n, d, 0.5, n, 1, 0, 1) for d in "xy" for n in (-5, 3, 4)])
        store.put_speed(SALES, 4, "x", 0, 1, [("a", days[0], 0, None, None, 1)])
        for _ in range(2):
            store.clear_below(SALES, "day", days[3], 1)
            assert [row[1:3] for shop in "ab" for row in store.fetch(SALES, (shop,))] == 2 * [
                (d, n) for d in days[3:] for n in range(3)
            ]
        store.clear_below(SALES, "hour", 2, 1)  # which is not the first of its order
        assert [row[1:3] for row in self.open(tmp_path).fetch(SALES, ("b",))] == [(d, 2) for d in days[3:]]
        store.clear_below(NO_PARTITION, "day", "2024-01-02x", 1)
        assert [row[0] for row in store.fetch(NO_PARTITION, ())] == days[2:]
        store.clear_below(TYPES, "number", 4, 1)  # a part of what tells partitions apart
        assert [len(store.fetch(TYPES, ("x", n, 0))) for n in (-5, 3, 4)] == [0, 0, 1]
        store.clear_below(TYPES, "moment", 4, 1)
        assert len(store.fetch(TYPES, ("y", 4, 0))) == 1
        assert len(store.fetch_speed(SALES, ("a",), epoch=4)) == 1, "speed rows go with their ranges"

    def test_what_a_higher_generation_wrote_is_not_cleared_however_late(self, tmp_path: Path) -> None:
        store = self.open(tmp_path)
        store.create(SALES)
        store.put(SALES, [sale("a", "d1", 0, "3", 3, slot=0, gen=3), sale("a", "d1", 0, "4", 4, slot=1, gen=4)])
        store.put(SALES, [sale("a", "d1", 1, "5", 5, slot=0, gen=5), sale("a", "d1", 2, "4", 4, slot=0, gen=4)])
        for _ in range(2):
            store.clear_below(SALES, "day", "d2", 4)
            assert [row[2:4] for row in store.fetch(SALES, ("a",))] == [(1, "5")]
        store.put(SALES, [sale("a", "d1", 0, "5", 5, slot=0, gen=5)])  # it is kept again
        store.clear_below(SALES, "day", "d2", 4)
        assert [tuple(row) for row in store.fetch(SALES, ("a",))] == [
            ("a", "d1", 0, "5", 5, 1, 0, 5),
            ("a", "d1", 1, "5", 5, 1, 0, 5),
        ]

    def test_many_rows_are_cleared_while_others_write(self, tmp_path: Path) -> None:
        store = self.open(tmp_path)
        store.create(NO_PARTITION)
        store.put(NO_PARTITION, ((f"{i:06}", i, 1, 0, 1) for i in range(45_000)))

        def work(number: int) -> None:
            if number == 0:
                store.clear_below(NO_PARTITION, "day", "044000", 1)
            else:
                store.put(NO_PARTITION, [(f"{i:06}", i, 1, 0, 2) for i in range(number, 44_000, 4_000)])

        in_threads(3, work)
        found = {(row[0], row[-1]) for row in store.fetch(NO_PARTITION, ())}
        written = {(f"{i:06}", 2) for number in (1, 2) for i in range(number, 44_000, 4_000)}
        assert found == written | {(f"{i:06}", 1) for i in range(44_000, 45_000)}

    def test_a_walk_sees_every_row_those_of_a_key_together(self, tmp_path: Path) -> None:
        store = self.open(tmp_path)
        store.create(SALES)
        store.put(SALES, [sale(shop, "d", n, None, n, slot=n % 2, gen=n + 1) for shop in "ab" for n in range(4)])
        store.put(SALES, [sale("a", "d", 1, "1.00", 9, slot=0, gen=9)])
        walked = [tuple(row) for rows in store.walk(SALES) for row in rows]
        assert sorted(row[:3] for row in walked) == sorted(
            [("a", "d", 1), *((shop, "d", n) for shop in "ab" for n in range(4))]
        )
        places = [i for i, row in enumerate(walked) if row[:3] == ("a", "d", 1)]
        assert places[1] == places[0] + 1
        assert {walked[i][3:] for i in places} == {("1.00", 9, 1, 0, 9), (None, 1, 1, 1, 2)}
        row = ("a", "d1", 0, None, None, 1)
        for epoch, lane, start in ((4, "x", 100), (4, "y", 200), (5, "x", 100)):
            store.put_speed(SALES, epoch, lane, start, start + 1, [row])
        speed = sorted(tuple(row) for rows in store.walk_speed(SALES, 4) for row in rows)
        assert speed == [(*row, "x", 100, 101), (*row, "y", 200, 201)]

    # Tables that come and go

    def test_dropped_tables_are_gone_and_may_be_made_again(self, tmp_path: Path) -> None:
        store = self.open(tmp_path)
        store.set_control("pointer", "1")
        store.create(SALES)
        store.create(NO_KEY)
        store.put(SALES, [sale("a", "d", 0, "1", 1)])
        assert sorted(store.physical()) == ["sales_1", "total_1"]
        store.drop("sales_1")
        store.drop("sales_1")
        store.drop("never_was")
        assert list(self.open(tmp_path).physical()) == ["total_1"]
        store.create(SALES)
        assert list(store.fetch(SALES, ("a",))) == []
        assert store.control("pointer") == "1"

    def test_a_new_place_may_be_opened_by_many_at_once(self, tmp_path: Path) -> None:
        in_threads(8, lambda number: self.open(tmp_path).set_control(f"row{number}", "x"))
        store = self.open(tmp_path)
        assert [store.control(f"row{number}") for number in range(8)] == ["x"] * 8


def expected(
    rows: Any, shop: str, bounds: tuple[Any, bool, Any, bool], reverse: bool, after: Row | None, limit: int | None
) -> list[Row]:
    """What ``fetch`` is to give, worked out slowly."""
    low, low_in, high, high_in = bounds

    def wanted(row: Row) -> Iterator[bool]:
        yield row[0] == shop
        yield low is None or row[1] > low or (low_in and row[1] == low)
        yield high is None or row[1] < high or (high_in and row[1] == high)
        yield after is None or (row[1:3] < after if reverse else row[1:3] > after)

    found = sorted((row for row in rows if all(wanted(row))), key=lambda r: (r[1:3], r[-2]), reverse=reverse)
    return found[:limit]


def _unslotted(row: Row) -> Row:
    return tuple(row)
