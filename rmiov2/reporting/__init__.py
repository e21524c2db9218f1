"""The page, its figures and tables, and the animation: drawn from files, knows no torch."""
