"""How fast it is, each number beside the one it must be compared with: `python -m benchmarks --help`."""
