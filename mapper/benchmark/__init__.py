"""Methods compared on sites, and the table of their scores."""
