"""One page that shows what was deployed and what was proven: HTML, with a Markdown twin."""

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
