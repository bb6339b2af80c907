-- Those who used anything on a day, in order of number.
SELECT msisdn, round(cost_zar, 6) AS cost_zar, calls, seconds, sessions, bytes
FROM subscriber_days WHERE day = $day ORDER BY msisdn LIMIT coalesce($limit, 10)
