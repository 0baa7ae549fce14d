-- migration: pre, for code from level 10
-- Networks that a tool takes webhooks from ('{}': any), and the address that its sender calls ('': as
-- HOOKSTREAM_PUBLIC_URL says, or the request).
ALTER TABLE tools ADD COLUMN allow_from text[] NOT NULL DEFAULT '{}';
ALTER TABLE tools ADD COLUMN public_url text NOT NULL DEFAULT '';
