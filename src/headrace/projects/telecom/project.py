"""A mobile operator's usage and what it costs: data sessions, calls, tariffs and exchange rates."""

from headrace import Project, bar, csv, jsonl, line, number, status, table

project = Project("telecom")

# Facts. The files of usage name no time zone: their times stand as they were written, and an hour or a day is one of that clock. A file
# may come a day late; what is older than that is final.
#
# A call detail record has no number of its own. So the whole record is its id: what comes a second time by another
# route, or in another file, is a duplicate; but two equal records of one file are two.

data = project.source(
    "cdr_data", csv("**/cdr_data*.csv"),
    id="msisdn, tower_id, up_bytes, down_bytes, data_type, ip_address, website_url, event_datetime",
    event_time="event_datetime", lateness="1 day", twins=True, topic="cdr_data", lane_by="msisdn",
    doc="Data sessions. A number is text: one in ten begins with 0.",
    columns="""
        msisdn VARCHAR, tower_id INTEGER, up_bytes BIGINT, down_bytes BIGINT, data_type VARCHAR, ip_address VARCHAR,
        website_url VARCHAR, event_datetime TIMESTAMP""",
)  # fmt: skip
data.rule("up_bytes >= 0 AND down_bytes >= 0", "negative volume")
data.flag("data_type NOT IN ('video', 'audio', 'image', 'text', 'application')", "unknown data type")

voice = project.source(
    "cdr_voice", csv("**/cdr_voice*.csv"),
    id="msisdn, tower_id, call_type, dest_nr, call_duration_sec, start_time", event_time="start_time",
    lateness="1 day", twins=True, topic="cdr_voice", lane_by="msisdn",
    doc="Calls, by who pays for them.",
    columns="""
        msisdn VARCHAR, tower_id INTEGER, call_type VARCHAR, dest_nr VARCHAR, call_duration_sec BIGINT,
        start_time TIMESTAMP""",
)  # fmt: skip
voice.rule("call_duration_sec >= 0", "negative duration")
voice.flag("call_type NOT IN ('voice', 'video')", "unknown call type")
voice.flag("call_duration_sec > 1800", "call of more than half an hour")
voice.flag("dest_nr = msisdn", "calls itself")

for cdr in (data, voice):
    # Kept and billed: the real numbers are no E.164 numbers, and a lost record is lost money.
    cdr.flag("NOT regexp_full_match(msisdn, '[0-9]{7,15}')", "msisdn is not 7 to 15 digits")
    cdr.flag("starts_with(msisdn, '0')", "msisdn begins with 0")
    cdr.flag("tower_id NOT BETWEEN 1 AND 2000", "unknown tower")

# Calls as a switch sees them, those that came to nothing too. These times have their zone.

calls = project.source(
    "calls", csv("**/calls*.csv"), id="phone, destination, started_at", event_time="started_at",
    lateness="1 day", topic="calls", lane_by="phone",
    doc="Attempted calls and whether they were completed. One that never got through has no tower at its other end.",
    columns="""
        phone VARCHAR, destination VARCHAR, started_at TIMESTAMPTZ, seconds BIGINT NOT NULL,
        source_tower INTEGER NOT NULL, destination_tower INTEGER, completed BOOLEAN NOT NULL, source_imei VARCHAR""",
)  # fmt: skip
calls.rule("seconds >= 0", "negative duration")
calls.flag("destination = phone", "calls itself")
calls.flag("source_tower NOT BETWEEN 1 AND 2000 OR destination_tower NOT BETWEEN 1 AND 2000", "unknown tower")
calls.flag("source_imei IS NULL", "no IMEI")
# An IMEI's 15th digit checks the others (3GPP TS 23.003, annex B); an IMEISV has 16 digits and none that checks.
calls.flag("NOT regexp_full_match(source_imei, '[0-9]{15,16}')", "IMEI is not 15 or 16 digits")
DIGITS = [f"TRY_CAST(substring(source_imei, {n}, 1) AS INTEGER)" for n in range(1, 16)]
# Luhn: of every second digit twice as much, of that the sum of the digits; all of it together ends in 0.
LUHN = " + ".join(f"{d} * 2 // 10 + {d} * 2 % 10" if n % 2 else d for n, d in enumerate(DIGITS))
calls.flag(f"length(source_imei) = 15 AND ({LUHN}) % 10 <> 0", "IMEI has a wrong check digit")

ticks = project.source(
    "forex_ticks", jsonl("**/tick-data*.jsonl"), id="pair_name, ticked_at, bid_price, ask_price",
    event_time="ticked_at", lateness="1 day", topic="tick-data", lane_by="pair_name",
    doc="Prices of two currency pairs. MRVZAR is what one MRV costs in ZAR, WAKMRV what one WAK costs in MRV.",
    rename={"timestamp": "ticked_at"},
    columns="""
        ticked_at TIMESTAMP, pair_name VARCHAR, bid_price DECIMAL(18,4), ask_price DECIMAL(18,4),
        spread DECIMAL(18,4)""",
)  # fmt: skip
ticks.rule("bid_price > 0", "price of 0 or less")
ticks.rule("ask_price >= bid_price", "asks less than it bids")
ticks.flag("pair_name NOT IN ('MRVZAR', 'WAKMRV')", "unknown pair")
ticks.flag("spread <> ask_price - bid_price", "spread is not ask less bid")

tariffs = project.reference(
    "tariffs", csv("tariffs*.csv"), key="category", valid_from="valid_from",
    doc="price_zar is for `per` seconds of a call or bytes of data, billed in steps of `step`. A line holds from "
    "valid_from until the next one of its category.",
    columns="""
        category VARCHAR, valid_from TIMESTAMP, price_zar DECIMAL(9,4) NOT NULL, per BIGINT NOT NULL,
        step BIGINT NOT NULL""",
)  # fmt: skip
# The marts divide by these two once, after adding up: a price for another unit would be wrong by its ratio.
tariffs.rule(
    "per = CASE category WHEN 'call' THEN 60 ELSE 1000000000 END", "calls are priced by 60 s, data by 10^9 bytes"
)
tariffs.rule("category IN ('call', 'data')", "unknown category")
tariffs.rule("price_zar >= 0 AND step >= 1", "negative price, or a step below 1")

# A file comes every few minutes, and is to be in the answers a quarter of an hour after its newest record at the latest.
for mart in ("usage_15min", "subscriber_days", "network_hourly", "forex_hourly"):
    project.fresh(mart, "15 minutes")

# Pages. Each tile of the network asks for one day, so that its table's partitions are days.

project.page(
    "Network",
    number("summary", y="cost_zar", title="Cost of the day", unit="ZAR"),
    number("summary", y="sessions", title="Data sessions"),
    number("summary", y="calls", title="Calls"),
    line("usage_hours", x="hour", y="bytes", by="usage_type", title="Data by hour", unit="bytes", category="data"),
    line("usage_hours", x="hour", y="seconds", by="usage_type", title="Calls by hour", unit="s", category="call"),
    bar("cost_hours", x="hour", y="cost_zar", by="category", title="Cost by hour", unit="ZAR"),
    bar("cost_hours", x="hour", y="cost_wak", by="category", title="Cost by hour in WAK", unit="WAK"),
    bar("data_types", x="data_type", y="bytes", title="Data by type", unit="bytes"),
    bar("call_types", x="call_type", y="seconds", title="Calls by type", unit="s"),
    bar("top_subscribers", x="msisdn", y="cost_zar", title="Subscribers who cost most", unit="ZAR", limit="10"),
    table("quality_of_day", title="What was found of the day's records"),
)
project.page(
    "Live",
    status("rate", title="Records counted", unit="a second"),
    status("lag", title="Landed, not counted yet", unit="records"),
    status("as_of", title="Newest event"),
    status("watermark", title="Final before"),
    number("summary", y="cost_zar", title="Cost of the day", unit="ZAR"),
    number("summary", y="sessions", title="Data sessions"),
    number("summary", y="calls", title="Calls"),
    number("summary", y="bytes", title="Data", unit="bytes"),
    bar("cost_by_hour", x="hour", y="cost_zar", by="category", title="Cost by hour", unit="ZAR"),
    bar("top_subscribers", x="msisdn", y="cost_zar", title="Subscribers who cost most", unit="ZAR", limit="10"),
    line("usage_hours", x="hour", y="bytes", by="usage_type", title="Data by hour", unit="bytes", category="data"),
    line("usage_hours", x="hour", y="seconds", by="usage_type", title="Calls by hour", unit="s", category="call"),
    refresh="3 seconds",
)
project.page(
    "One subscriber",
    line("usage_1h", x="datetime", y="cost_zar", title="Cost by hour", unit="ZAR"),
    bar("usage_types", x="day", y="cost_zar", by="kind", title="Cost by day and type", unit="ZAR"),
    line("balance", x="hour", y="balance_zar", title="Balance", unit="ZAR", limit="1000"),
    line("balance", x="hour", y="balance_wak", title="Balance in WAK", unit="WAK", limit="1000"),
    table("usage_in_wak", title="Cost by hour, in ZAR and WAK"),
    msisdn="2712345678901",
)
project.page(
    "Calls",
    number("call_success_rate", y="asr_percent", title="Calls that were completed (ASR)", unit="%"),
    number("call_success_rate", y="total", title="Calls"),
    number("call_success_rate", y="failed", title="Calls that failed"),
    number("call_success_rate", y="acd_seconds", title="Mean duration (ACD)", unit="s"),
    line("call_success_hours", x="hour", y="asr_percent", title="Calls that were completed, by hour", unit="%"),
    bar("call_success_hours", x="hour", y="total", title="Calls by hour"),
)
project.page(
    "Data quality",
    table("quality", title="Landed, clean, quarantined, duplicate and flagged"),
    bar("totals", x="usage_type", y="events", by="category", title="Clean records by type"),
)
