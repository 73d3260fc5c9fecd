"""Access to files: signed, paced, retried, counted, and opened."""
