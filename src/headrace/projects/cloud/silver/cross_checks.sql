-- What is odd about a record only beside the organisation or the resource it names: one row a finding, quarantined
-- records included. The state of a resource and the stage of an organisation are those of the day of the export.
SELECT source, day, reason FROM (
    SELECT 'usage_events' AS source, coalesce(CAST(e.happened_at AS DATE), DATE '1970-01-01') AS day, e._lane, e._offset,
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
    SELECT 'users', coalesce(u.created_at, DATE '1970-01-01'), u._lane, u._offset,
           CASE WHEN o.org_id IS NULL THEN 'unknown organisation'
                WHEN u.created_at < o.signup_date THEN 'before the organisation signed up' END
    FROM users_judged AS u LEFT JOIN customers_orgs AS o ON o.org_id = u.org_id
    UNION ALL
    SELECT 'resources', coalesce(r.created_at, DATE '1970-01-01'), r._lane, r._offset,
           CASE WHEN o.org_id IS NULL THEN 'unknown organisation'
                WHEN r.created_at < o.signup_date THEN 'before the organisation signed up' END
    FROM resources_judged AS r LEFT JOIN customers_orgs AS o ON o.org_id = r.org_id
    UNION ALL
    SELECT 'support_tickets', coalesce(t.created_at, DATE '1970-01-01'), t._lane, t._offset,
           CASE WHEN o.org_id IS NULL THEN 'unknown organisation'
                WHEN t.created_at < o.signup_date THEN 'before the organisation signed up' END
    FROM support_tickets_judged AS t LEFT JOIN customers_orgs AS o ON o.org_id = t.org_id
    UNION ALL
    SELECT 'marketing_touches', coalesce(m.touched_on, DATE '1970-01-01'), m._lane, m._offset,
           CASE WHEN o.org_id IS NULL THEN 'unknown organisation'
                WHEN m.touched_on < o.signup_date THEN 'before the organisation signed up' END
    FROM marketing_touches_judged AS m LEFT JOIN customers_orgs AS o ON o.org_id = m.org_id
    UNION ALL
    SELECT 'nps_surveys', coalesce(s.survey_date, DATE '1970-01-01'), s._lane, s._offset,
           CASE WHEN o.org_id IS NULL THEN 'unknown organisation'
                WHEN s.survey_date < o.signup_date THEN 'before the organisation signed up' END
    FROM nps_surveys_judged AS s LEFT JOIN customers_orgs AS o ON o.org_id = s.org_id
    UNION ALL
    SELECT 'billing_monthly', coalesce(b.month, DATE '1970-01-01'), b._lane, b._offset,
           CASE WHEN o.org_id IS NULL THEN 'unknown organisation' END
    FROM billing_monthly_judged AS b LEFT JOIN customers_orgs AS o ON o.org_id = b.org_id
) AS checks WHERE reason IS NOT NULL
