"""Great Expectations on the catalogue and on the episodes, and the pages that say what failed."""
