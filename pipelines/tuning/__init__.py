"""Studies of settings: `python -m pipelines.tuning`. Optuna is imported in study.py and plots.py alone."""
