-- migration: post, for code from level 27
-- From here on secrets of tools may be sealed (docs/sealing.md): a release before would take what is
-- sealed for the secret itself, and refuse every webhook.
COMMENT ON COLUMN tools.secrets IS 'sealed:1:… or in the clear: docs/sealing.md';
COMMENT ON COLUMN tools.learnt_secret IS 'as secrets';
