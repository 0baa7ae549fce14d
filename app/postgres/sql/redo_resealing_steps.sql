-- Have the steps of an erasure ($1) done again that seal anew what stays.
DELETE FROM erasure_steps
WHERE erasure_id = $1 AND place = '' AND (step = 'archive' OR step LIKE 'derived:%')
