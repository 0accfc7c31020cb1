"""Machines: where tasks run, what a run needs, and how it survives. Knows no statistics."""
