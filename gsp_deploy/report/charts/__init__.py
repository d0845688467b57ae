"""The report's charts: inline SVG that takes its colours from the page, light or dark."""
