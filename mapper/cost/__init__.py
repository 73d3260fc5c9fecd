"""Requests, bytes, hours and money of a map: estimated before it runs, corrected by what it took."""
