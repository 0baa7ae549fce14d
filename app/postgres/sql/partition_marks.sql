-- What is remembered of every partition, and how many seconds ago that was noted.
SELECT
    partition, generations, sequence, top,
    extract(epoch FROM now() - noted_at)::double precision AS age_seconds
FROM partition_marks
