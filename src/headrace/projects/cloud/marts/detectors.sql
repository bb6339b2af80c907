-- How well each detector finds cost spikes: its flags, how many of them are spikes, and how many spikes it finds. Flags
-- and ratios are over clean events with a value; landed_flags over all landed events, clean_flags over the clean ones.
-- Where spikes are labelled, the same against the labels, over all clean events.
SELECT detector, role, version,
       max(threshold) AS threshold,
       count(*) FILTER (WHERE flagged) AS landed_flags,
       count(*) FILTER (WHERE flagged AND clean) AS clean_flags,
       count(*) FILTER (WHERE flagged AND measured) AS flags,
       count(*) FILTER (WHERE flagged AND spike_by_ratio) AS true_flags,
       count(*) FILTER (WHERE spike_by_ratio) AS spikes,
       true_flags / nullif(flags, 0) AS precision,
       true_flags / nullif(spikes, 0) AS recall,
       count(*) FILTER (WHERE flagged AND spike_by_label) AS true_labels,
       count(*) FILTER (WHERE spike_by_label) AS labels,
       CASE WHEN labels > 0 THEN true_labels / nullif(clean_flags, 0) END AS label_precision,
       true_labels / nullif(labels, 0) AS label_recall
FROM detections GROUP BY ALL
