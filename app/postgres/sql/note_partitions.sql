-- How far partitions have come, by their owners. $1 partitions, $2 generations, $3 all of them as text,
-- $4 sequences, $5 highest numbers. What an earlier owner says late takes nothing back.
INSERT INTO partition_marks AS m (partition, generation, generations, sequence, top, noted_at)
SELECT n.partition, n.generation, n.generations, n.sequence, n.top, now()
FROM unnest($1::integer[], $2::bigint[], $3::text[], $4::bigint[], $5::bigint[])
    AS n (partition, generation, generations, sequence, top)
ORDER BY n.partition
ON CONFLICT (partition) DO UPDATE SET
    generation = excluded.generation, generations = excluded.generations,
    sequence = excluded.sequence, top = greatest(m.top, excluded.top), noted_at = now()
WHERE (m.generation, m.sequence) <= (excluded.generation, excluded.sequence)
