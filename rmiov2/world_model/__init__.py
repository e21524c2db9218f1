"""The world model M of eqs. (2)-(12)."""
