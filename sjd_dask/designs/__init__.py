"""Designs: formulas and queries over sample columns, shared by every room of mathematics."""
