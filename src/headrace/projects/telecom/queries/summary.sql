-- A day in one row: usage of all subscribers, and its cost.
SELECT sum(events) AS events, coalesce(sum(events) FILTER (WHERE category = 'call'), 0) AS calls, sum(seconds) AS seconds,
       coalesce(sum(events) FILTER (WHERE category = 'data'), 0) AS sessions, measure(bytes) AS bytes,
       round(measure(cost_zar), 6) AS cost_zar, sum(unpriced) AS unpriced
FROM network_hourly WHERE day = $day
