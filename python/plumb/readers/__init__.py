def read_llama_cpp(): pass
def read_sglang(): pass
