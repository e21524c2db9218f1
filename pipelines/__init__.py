"""What runs the library: a module here is a command, or one of the few that several rooms need: paths, environment,
refusals, stage. All else lives in a room; the rooms are built on one another, in the order of tests/test_imports.py.
"""
