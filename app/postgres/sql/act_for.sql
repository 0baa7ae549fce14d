-- Until the transaction ends: who acts, for the audit trail; and where a tenant is named, as the role
-- that has that tenant's rows only. $1 who ('': nobody), $2 tenant ('': rows of all), $3 the role
SELECT
    set_config('hookstream.acting', $1, true),
    CASE WHEN $2 <> '' THEN set_config('hookstream.tenant', $2, true) END,
    CASE WHEN $2 <> '' THEN set_config('role', $3, true) END
