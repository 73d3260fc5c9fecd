"""Web map tiles, drawn from the pyramid of a map."""
