-- A client that stops in the middle keeps its locks for ten seconds at most, or for what is set already.
SELECT
    set_config(name, '10s', true)
FROM unnest(ARRAY['statement_timeout', 'idle_in_transaction_session_timeout']) AS s (name)
WHERE current_setting(name) = '0'
