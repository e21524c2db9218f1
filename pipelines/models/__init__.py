"""MLflow's side: what every stage did, and trained teams as versions of a registered model, judged by episodes."""
