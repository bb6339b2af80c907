-- The calls of one phone between two instants, newest first, each with its outcome. The end is not included.
SELECT started_at, destination, seconds, completed, source_tower, destination_tower, source_imei FROM calls
WHERE phone = $phone_number AND started_at >= $start_time AND started_at < $end_time
ORDER BY started_at DESC, destination DESC LIMIT $limit
