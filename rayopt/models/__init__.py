"""Models: the zoo, a user's own, and their way into and out of files (safetensors and ONNX, never a pickle)."""
