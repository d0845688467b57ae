"""The report's charts: inline SVG with the page's colours, light or dark."""
