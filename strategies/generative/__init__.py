"""Generated rows in place of stored ones."""
