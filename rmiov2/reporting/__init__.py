"""The page, its figures and tables, and the animation: drawn from files, knows no torch."""

from rmiov2.reporting.animation import write_animation
from rmiov2.reporting.methods_table import methods_markdown
from rmiov2.reporting.page import build
from rmiov2.reporting.paper_page import build_paper
from rmiov2.reporting.seeds import overlay_seeds
from rmiov2.reporting.variants_table import variants_markdown

__all__ = ["build", "build_paper", "methods_markdown", "overlay_seeds", "variants_markdown", "write_animation"]
