"""Tables, pages and figures of runs."""

from bench.report.captions import left_out
from bench.report.cite import citations
from bench.report.class_tables import class_tables, print_classes, write_classes
from bench.report.comparison_text import (
    comparison_badge,
    comparison_junit,
    comparison_markdown,
    print_comparison,
)
from bench.report.grid_texts import grid_settings
from bench.report.history_table import HEADER as HISTORY_HEADER, history_rows, history_steps, write_history
from bench.report.layout import Layout, Spread, chosen_formats, chosen_width
from bench.report.live_server import HOST, page_server
from bench.report.pairs import every_comparison
from bench.report.plot import draw_data, plot
from bench.report.power_table import needed_seeds, print_power
from bench.report.published_numbers import print_published
from bench.report.summary import summary_table
from bench.report.tables import in_html, print_tables, tables
from bench.report.text_tables import print_rows
from bench.report.trackers import check_trackers, tracking
from bench.report.write_report import make_report

__all__ = [
    "HISTORY_HEADER", "HOST", "Layout", "Spread", "check_trackers", "chosen_formats", "chosen_width",
    "citations", "class_tables", "comparison_badge", "comparison_junit", "comparison_markdown", "draw_data",
    "every_comparison", "grid_settings", "history_rows", "history_steps", "in_html", "left_out",
    "make_report", "needed_seeds", "page_server", "plot", "print_classes", "print_comparison", "print_power",
    "print_published", "print_rows", "print_tables", "summary_table", "tables", "tracking", "write_classes",
    "write_history",
]  # fmt: skip
