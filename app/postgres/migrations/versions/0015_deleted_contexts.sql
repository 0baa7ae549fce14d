-- migration: pre, for code from level 10
-- Contexts that were deleted, until the owner of their partition has deleted their feed: until then
-- none of that name is made again.
CREATE TABLE deleted_contexts (
    tenant      text NOT NULL,
    context_id  text NOT NULL,
    deleted_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, context_id)
);
