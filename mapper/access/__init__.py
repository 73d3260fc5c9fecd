"""How files are reached: signed, paced, retried, counted, and opened."""
