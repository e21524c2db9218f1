"""The page, its figures and tables, and the animation: drawn from files, knows no torch."""

from rmiov2.reporting.animation import write_animation
from rmiov2.reporting.page import build
from rmiov2.reporting.seeds import overlay_seeds

__all__ = ["build", "overlay_seeds", "write_animation"]
