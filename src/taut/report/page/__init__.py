"""A result as one page of HTML that anybody can open, offline."""

from taut.report.page.build import build
from taut.report.page.made import Made, made_by
from taut.report.page.read import document_in, is_page, made_in

__all__ = ["Made", "build", "document_in", "is_page", "made_by", "made_in"]
