-- migration: pre, for code from level 10
-- Why an import has ended before its end. `status` has two more: stopped, by whom it was run; failed, and why.
-- The release before leaves the reason there when it begins one again: it counts where it failed only.
ALTER TABLE imports ADD COLUMN reason text NOT NULL DEFAULT '';
