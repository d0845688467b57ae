"""Write a report of what was deployed and proven: one HTML page, and the same in Markdown."""

from gsp_deploy.report.documents import Documents, read_documents
from gsp_deploy.report.markdown import markdown_page
from gsp_deploy.report.page import html_page
from gsp_deploy.report.pictures import Pictures, take_pictures

__all__ = [
    "Documents",
    "Pictures",
    "html_page",
    "markdown_page",
    "read_documents",
    "take_pictures",
]
