-- What every detector says about every landed event, beside the truth: one row an event and detector. The four that
-- silver/event_scores.sql declares, and the same scores at other thresholds to compare them with.
--
-- A spike by ratio is known without labels: the price per unit is either at most 2 times the usual one or at least 11.8
-- times, nothing lies between. That truth and rate_mad look at the same ratio, so rate_mad's own figures are partly
-- circular; those of detectors that look at the cost are not. A spike by label is what labels/spikes.csv names.
SELECT detector, role, version, threshold, NOT quarantined AS clean, NOT quarantined AND value IS NOT NULL AS measured,
       coalesce(score > threshold, false) AS flagged,
       coalesce(NOT quarantined AND value > 0 AND times_usual > 5, false) AS spike_by_ratio,
       NOT quarantined AND label IS NOT NULL AS spike_by_label
FROM (
    SELECT e.quarantined, e.value, e.times_usual, e.version, l.event_id AS label,
           unnest(['z_3', 'global_mad_3', 'percentile', 'p99_x2', 'p99_x3', 'cost_mad_3_5', 'cost_mad_5', 'cost_mad_8',
                   'rate_mad_3_5', 'rate_mad_5', 'rate_mad_8']) AS detector,
           unnest(['original', 'original', 'original', 'compared', 'compared', 'compared', 'compared', 'compared',
                   'compared', 'compared', 'decides']) AS role,
           unnest([e.z_threshold, e.global_mad_threshold, e.percentile_threshold, 2.0, 3.0, 3.5, 5.0, 8.0,
                   3.5, 5.0, e.rate_mad_threshold]) AS threshold,
           unnest([e.z_score, e.global_mad, e.outside_percentiles, e.above_p99, e.above_p99, e.cost_mad, e.cost_mad, e.cost_mad,
                   e.rate_mad, e.rate_mad, e.rate_mad]) AS score
    FROM event_scores AS e LEFT JOIN spike_labels AS l ON l.event_id = e.event_id
) AS scored
