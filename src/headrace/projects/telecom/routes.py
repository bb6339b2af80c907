"""The usage API, as its clients know it: their paths, their way of writing times, and their answers."""

from headrace import Routes, column, given, now, parameter, rows

SECONDS = "%Y%m%d%H%M%S"
SHOWN = "%Y-%m-%d %H:%M:%S"
DAY = "%Y-%m-%d"
MOMENT = "%Y-%m-%dT%H:%M:%S"

MSISDN = parameter(
    "msisdn",
    pattern="[0-9]{1,20}",
    example="2712345678901",
    doc="The subscriber's number, as text: it may begin with 0. A number that nobody knows has no usage.",
)

routes = Routes()
routes.get(
    "/data_usage", "data_usage_wak",
    doc="What a subscriber used, by hour or by day: bytes of data and seconds of calls, by category and type. A call or "
    "session counts in the quarter of an hour in which it began. cost_wak is there by hour, where the exchange rates are "
    "known.",
    parameters={
        "msisdn": MSISDN,
        "start_time": parameter("start_time", time=SECONDS, example="20240101000000", doc="The first moment."),
        "end_time": parameter("end_time", time=SECONDS, example="20240102000000", doc="The moment after the last one."),
        "granularity": parameter("granularity", choices=("hour", "day"), default="hour", doc="Rows by hour, or by day."),
    },
    between=("start_time", "end_time"), longest="31 days", pages="start_time",
    answer={
        "msisdn": given("msisdn"),
        "start_time": given("start_time", time=SHOWN),
        "end_time": given("end_time", time=SHOWN),
        "usage": rows({
            "category": column("category"),
            "usage_type": column("usage_type"),
            "total": column("total"),
            "measure": column("measure"),
            "start_time": column("start_time", time=SHOWN),
            "cost_wak": column("cost_wak", number=True, optional=True),
        }),
    },
)  # fmt: skip

# The APIs of the two systems that this one replaces, for their clients. serve.routes = "nngidi, jermaine_beea" serves them.
# The second one answered in two ways, by the store that it was pointed at; jermaine_beea_calls is the other way.

nngidi = routes.pack("nngidi", prefix="/nngidi")
nngidi.get(
    "/data_usage", "data_usage_wak",
    doc="As /data_usage, by hour. Calls have the category voice, and the end is included, to the second.",
    parameters={
        "msisdn": MSISDN,
        "start_time": parameter("start_time", time=SECONDS, example="20240101000000"),
        "end_time": parameter("end_time", time=SECONDS, plus="1 second", example="20240101235959"),
    },
    between=("start_time", "end_time"), longest="31 days",
    answer={
        "msisdn": given("msisdn"),
        "start_time": given("start_time", time=SHOWN),
        "end_time": given("end_time", time=SHOWN),
        "usage": rows({
            "category": column("category", words={"call": "voice"}),
            "usage_type": column("usage_type"),
            "total": column("total"),
            "measure": column("measure"),
            "start_time": column("start_time", time=SHOWN),
            "cost_wak": column("cost_wak", number=True),
        }),
    },
)  # fmt: skip

# The same system gave numbers of subscribers to anybody. Here they are for those who log in, and only where it is wanted:
# serve.routes = "nngidi, msisdns".
routes.pack("msisdns", prefix="/nngidi").get(
    "/msisdns", "msisdns",
    doc="Ten subscribers, and more with limit.",
    parameters={"day": parameter("day", newest=True, example="2024-01-01"), "limit": parameter("limit")},
    answer={"msisdns": rows(column("msisdn"))},
)  # fmt: skip

jermaine_beea = routes.pack("jermaine_beea", prefix="/jermaine-beea", error="error")
DAYS = {
    "msisdn": MSISDN,
    "start_date": parameter("start_time", time=DAY, default="0001-01-01", doc="The first day."),
    "end_date": parameter("end_time", time=DAY, plus="1 day", default="9999-12-30", doc="The last day."),
}
ASKED = {"msisdn": given("msisdn"), "start_date": given("start_date"), "end_date": given("end_date")}
jermaine_beea.get(
    "/api/usage/{msisdn}", "data_usage",
    doc="What a subscriber used, by day. Both days are included.",
    parameters=DAYS, between=("start_date", "end_date"), granularity="day",
    answer={
        **ASKED,
        "usage": rows({
            "category": column("category"),
            "usage_type": column("usage_type"),
            "total": column("total"),
            "measure": column("measure"),
            "start_time": column("start_time", time=DAY),
        }),
    },
)  # fmt: skip
jermaine_beea.get(
    "/api/usage/{msisdn}/summary", "calls_summary",
    doc="A subscriber's calls in one row. Both days are included.",
    parameters=DAYS, between=("start_date", "end_date"),
    answer={
        **ASKED,
        "summary": {
            "total_calls": column("total_calls"),
            "voice_calls": column("voice_calls"),
            "video_calls": column("video_calls"),
            "total_duration_seconds": column("total_duration_seconds"),
            "active_days": column("active_days"),
            "first_call": column("first_call", time=DAY),
            "last_call": column("last_call", time=DAY),
        },
    },
)  # fmt: skip
jermaine_beea.health(
    "/health",
    ready={"status": "healthy", "timestamp": now()},
    unready={"status": "unhealthy", "timestamp": now()},
    doc="Whether answers can be given.",
)

jermaine_beea_calls = routes.pack("jermaine_beea_calls", prefix="/jermaine-beea-calls", error="error")
jermaine_beea_calls.get(
    "/api/usage/{msisdn}", "calls_days",
    doc="A subscriber's calls by day, newest first, without days that have none. Both days are included.",
    parameters=DAYS, between=("start_date", "end_date"),
    answer={
        **ASKED,
        "data": rows({
            "date": column("day", time=DAY),
            "total_calls": column("total_calls"),
            "voice_calls": column("voice_calls"),
            "video_calls": column("video_calls"),
            "total_duration_seconds": column("total_duration_seconds"),
            "avg_duration_seconds": column("avg_duration_seconds", number=True),
        }),
    },
)  # fmt: skip
jermaine_beea_calls.get(
    "/api/usage/{msisdn}/summary", "calls_summary",
    doc="A subscriber's calls in one row. Both days are included; first_call and last_call are told to the quarter of an hour.",
    parameters=DAYS, between=("start_date", "end_date"),
    answer={
        **ASKED,
        "summary": {
            "total_calls": column("total_calls"),
            "voice_calls": column("voice_calls"),
            "video_calls": column("video_calls"),
            "total_duration_seconds": column("total_duration_seconds"),
            "active_days": column("active_days"),
            "first_call": column("first_call", time=MOMENT),
            "last_call": column("last_call", time=MOMENT),
        },
    },
)  # fmt: skip
jermaine_beea_calls.health(
    "/health",
    ready={"status": "healthy", "timestamp": now()},
    unready={"status": "unhealthy", "timestamp": now()},
    doc="Whether answers can be given.",
)
