-- The subscribers who cost most on a day.
SELECT msisdn, round(cost_zar, 6) AS cost_zar, calls, seconds, sessions, bytes
FROM subscriber_days WHERE day = $day ORDER BY cost_zar DESC, msisdn LIMIT coalesce($limit, 20)
