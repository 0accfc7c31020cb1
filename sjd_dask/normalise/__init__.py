"""Normalisation: methods that are fitted once on a reference set, frozen, and applied sample by sample."""
