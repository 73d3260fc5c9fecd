"""The frozen list of tasks of a map or of its guide, and what each of them reads."""
