"""HTML and SVG by hand: small tables, maps and charts that need neither a script nor another file."""
