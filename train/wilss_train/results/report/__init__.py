"""What came of a run: its log while it trains, and at the end report.json and a page that shows it.

`log` is written line by line and survives kills; `document` says in JSON what a program wants to know, `page` shows
the same to people, in one file that loads nothing from anywhere.
"""

from .log import LOG_FILE, TrainingLog, read_log
from .page import PAGE_FILE, REPORT_FILE, write_report
from .pictures import Picture, choose_images

__all__ = [
    "LOG_FILE",
    "PAGE_FILE",
    "REPORT_FILE",
    "Picture",
    "TrainingLog",
    "choose_images",
    "read_log",
    "write_report",
]
