"""What other engines write while they run, read as traces."""

from plumb.readers.llama_cpp import read_llama_cpp
from plumb.readers.sglang import read_sglang

__all__ = ["read_llama_cpp", "read_sglang"]
