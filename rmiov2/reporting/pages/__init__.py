"""The two pages: of a run, and of all that is kept."""
