"""A run as its files are: read, and drawn in figures and tables."""
