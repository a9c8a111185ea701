"""Compression: structured pruning of torch models, quantisation of ONNX models."""
