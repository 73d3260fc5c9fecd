"""One page that tells a run: what the map looks like, how it came about, what is wrong with it, what it cost."""
