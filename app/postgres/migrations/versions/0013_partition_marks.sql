-- migration: pre, for code from level 10
-- How far each partition had come when its owner last said so: fewer commits in Redis than here are
-- a loss of data there. `generation` is the newest of `generations` ("generation:first-number …"),
-- `top` the highest number that any of its contexts was given.
CREATE TABLE partition_marks (
    partition    integer PRIMARY KEY,
    generation   bigint NOT NULL,
    generations  text NOT NULL,
    sequence     bigint NOT NULL,
    top          bigint NOT NULL,
    noted_at     timestamptz NOT NULL DEFAULT now()
);
