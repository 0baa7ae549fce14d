-- $1 its id
DELETE FROM dictionaries
WHERE dictionary_id = $1
