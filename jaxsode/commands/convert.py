"""jaxsode convert: a published file of weights → a safetensors file."""

from pretrained_conversion.convert import main

__all__ = ["main"]
