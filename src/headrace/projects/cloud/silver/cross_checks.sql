-- What is odd about a record only beside the organisation or the resource it names: one row a finding, quarantined
-- records included. The state of a resource and the stage of an organisation are those of the day of the export.
SELECT source, day, coalesce(reason, '') AS reason FROM (
    SELECT 'usage_events' AS source, coalesce(CAST(e.happened_at AS DATE), DATE '1970-01-01') AS day,
           unnest([CASE WHEN CAST(e.happened_at AS DATE) < r.created_at THEN 'before the resource was created' END,
                   CASE r.state WHEN 'terminated' THEN 'on a terminated resource'
                                WHEN 'stopped' THEN 'on a stopped resource' END,
                   CASE WHEN CAST(e.happened_at AS DATE) < o.signup_date THEN 'before the organisation signed up' END,
                   CASE o.lifecycle_stage WHEN 'churned' THEN 'of a churned organisation'
                                          WHEN 'lead' THEN 'of a lead or prospect'
                                          WHEN 'prospect' THEN 'of a lead or prospect' END,
                   CASE WHEN o.org_id IS NULL THEN 'unknown organisation' END,
                   CASE WHEN r.resource_id IS NULL THEN 'unknown resource' END]) AS reason
    FROM usage_events_judged AS e
    LEFT JOIN resources AS r ON r.resource_id = e.resource_id
    LEFT JOIN customers_orgs AS o ON o.org_id = e.org_id
    UNION ALL
    SELECT 'users' AS source, coalesce(u.created_at, DATE '1970-01-01') AS day,
           CASE WHEN o.org_id IS NULL THEN 'unknown organisation'
                WHEN u.created_at < o.signup_date THEN 'before the organisation signed up' END AS reason
    FROM users_judged AS u LEFT JOIN customers_orgs AS o ON o.org_id = u.org_id
    UNION ALL
    SELECT 'resources' AS source, coalesce(r.created_at, DATE '1970-01-01') AS day,
           CASE WHEN o.org_id IS NULL THEN 'unknown organisation'
                WHEN r.created_at < o.signup_date THEN 'before the organisation signed up' END AS reason
    FROM resources_judged AS r LEFT JOIN customers_orgs AS o ON o.org_id = r.org_id
    UNION ALL
    SELECT 'support_tickets' AS source, coalesce(t.created_at, DATE '1970-01-01') AS day,
           CASE WHEN o.org_id IS NULL THEN 'unknown organisation'
                WHEN t.created_at < o.signup_date THEN 'before the organisation signed up' END AS reason
    FROM support_tickets_judged AS t LEFT JOIN customers_orgs AS o ON o.org_id = t.org_id
    UNION ALL
    SELECT 'marketing_touches' AS source, coalesce(m.touched_on, DATE '1970-01-01') AS day,
           CASE WHEN o.org_id IS NULL THEN 'unknown organisation'
                WHEN m.touched_on < o.signup_date THEN 'before the organisation signed up' END AS reason
    FROM marketing_touches_judged AS m LEFT JOIN customers_orgs AS o ON o.org_id = m.org_id
    UNION ALL
    SELECT 'nps_surveys' AS source, coalesce(s.survey_date, DATE '1970-01-01') AS day,
           CASE WHEN o.org_id IS NULL THEN 'unknown organisation'
                WHEN s.survey_date < o.signup_date THEN 'before the organisation signed up' END AS reason
    FROM nps_surveys_judged AS s LEFT JOIN customers_orgs AS o ON o.org_id = s.org_id
    UNION ALL
    SELECT 'billing_monthly' AS source, coalesce(b.month, DATE '1970-01-01') AS day,
           CASE WHEN o.org_id IS NULL THEN 'unknown organisation' END AS reason
    FROM billing_monthly_judged AS b LEFT JOIN customers_orgs AS o ON o.org_id = b.org_id
) AS checks WHERE reason IS NOT NULL
