"""Run a trained model under a plan, without ever touching the model."""

from evonas.quantize.post_training import METHODS, PostTraining, Quantizer
from evonas.quantize.threads import full_precision, single_thread, single_thread_of_blas

__all__ = ["METHODS", "PostTraining", "Quantizer", "full_precision", "single_thread", "single_thread_of_blas"]
