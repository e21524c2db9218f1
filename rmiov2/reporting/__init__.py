"""The page, its figures and tables, and the animation: drawn from files, knows no torch."""

from rmiov2.reporting.animation import write_animation
from rmiov2.reporting.methods_table import methods_markdown
from rmiov2.reporting.page import build
from rmiov2.reporting.seeds import overlay_seeds

__all__ = ["build", "methods_markdown", "overlay_seeds", "write_animation"]
