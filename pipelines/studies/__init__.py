"""Many studies at once: the cells of a list, a workspace for each, and the records of what was run and is kept."""
