"""Studies of settings: `python -m pipelines.tuning`. Optuna is imported in study.py, storage.py and plots.py alone."""
