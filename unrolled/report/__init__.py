"""What a run folder says to a person: a page that opens from disk and a model card."""

from unrolled.report.card import model_card
from unrolled.report.page import Section, report_page

__all__ = ["Section", "model_card", "report_page"]
