"""The replay: a buffer in memory, shards on disk."""
