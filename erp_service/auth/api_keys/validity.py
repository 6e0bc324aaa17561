"""When an API key is active, in SQL. Apart from the queries, since datasets load no driver of the database."""

ACTIVE = "(api_keys.revoked_at is null and (api_keys.expires_at is null or api_keys.expires_at > now()))"
