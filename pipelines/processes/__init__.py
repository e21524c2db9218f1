"""Stages as processes: DVC runs them, they end with those that wait for them, and a kill's leftovers are taken away."""
