-- Precision and recall of every cost spike detector, against the spikes that the prices show and, where there are
-- labels, against those.
SELECT detector, role, version, threshold, flags, true_flags, spikes, round(precision, 4) AS precision, round(recall, 4) AS recall,
       landed_flags, clean_flags, labels, true_labels, round(label_precision, 4) AS label_precision, round(label_recall, 4) AS label_recall
FROM detectors ORDER BY detector
