-- Whether a write would be taken: not by a standby, nor where an operator has said so.
SELECT current_setting('transaction_read_only')::boolean AS read_only
