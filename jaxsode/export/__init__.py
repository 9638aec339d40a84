"""A detector as one function in a file: StableHLO for JAX, ONNX for any runtime, checked where it is made."""
