"""Multi-objective evolutionary search over PyTorch models."""

__version__ = "0.1.0"
