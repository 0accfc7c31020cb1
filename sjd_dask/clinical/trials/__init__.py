"""Trials: who may enter, how many are needed, who gets what, and what a finished trial says by class and axis."""
