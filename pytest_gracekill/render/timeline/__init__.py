"""The timeline of a picture as SVG: drawn once, looked at alone or within a page."""
