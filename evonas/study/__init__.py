"""Samplers x seeds: curves, statistics and tables."""
