"""Methods compared: what is scored on which places, and the table that comes of it."""
