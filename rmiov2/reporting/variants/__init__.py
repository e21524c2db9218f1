"""Variants of the method without one of its parts, and what the paper found of them."""
