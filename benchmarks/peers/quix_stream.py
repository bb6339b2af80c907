"""Peer of suite ``stream``: Quix Streams counts messages by key and day, exactly once, into a topic. It has an environment of its
own, as its client library is older than Headrace's.

``python quix_stream.py BROKERS TOPIC MESSAGES``
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from datetime import timedelta
from typing import Any

from quixstreams import Application


def main(brokers: str, topic: str, messages: int) -> dict[str, float]:
    times: list[float] = []
    with tempfile.TemporaryDirectory() as state:
        app = Application(
            broker_address=brokers,
            consumer_group=f"quix-{time.time_ns()}",
            auto_offset_reset="earliest",
            processing_guarantee="exactly-once",
            state_dir=state,
            loglevel="ERROR",
        )
        calls = app.topic(topic, value_deserializer="json", key_deserializer="str")
        counts = app.topic(f"{topic}.counts", value_serializer="json")

        def seen(_: Any) -> None:
            times.append(time.monotonic())
            if len(times) == messages:
                app.stop()

        frame = app.dataframe(calls).update(seen)
        frame.tumbling_window(timedelta(days=1)).count().final().to_topic(counts)
        app.run()
        stopped = time.monotonic()  # with what is open committed
    return {"records": len(times), "seconds": stopped - times[0]}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
