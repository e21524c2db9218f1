"""What stands between two stages: facts of the data, what is expected of them, and the pages that show it."""
