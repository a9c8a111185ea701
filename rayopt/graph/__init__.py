"""The ONNX graph optimiser: untrusted tools in child processes, and the proof that what they give is equal."""
