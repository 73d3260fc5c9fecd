"""What a score means, one definition each."""
