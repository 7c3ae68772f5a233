"""Writes model files of published shapes with random weights, which run as fast as the real ones and answer nonsense.

Usage: python bench/make_shapes.py FOLDER [--shapes qwen3-0.6b,...] [--types BF16,Q8_0,Q4_0,Q4_K_M,safetensors] [--layers N]

FOLDER/SHAPE-TYPE.gguf, and for safetensors the folder FOLDER/SHAPE-safetensors as Hugging Face lays one out, in BF16. A file
that is there already is left as it is. The same arguments give the same bytes. Weights are scaled so that every layer's output
has about the size of its input and the next token's distribution is neither flat nor certain. Which tensor has which type
follows llama.cpp's llama_tensor_get_type (llama-quant.cpp). Python packages: gguf, numpy.
"""

import argparse
import dataclasses
import json
import math
import pathlib
import struct
import sys

import gguf
import numpy as np
from model_shapes import SHAPES, hf_config, parameters, rope_divisors, vocabulary

Q = gguf.GGMLQuantizationType
TYPES = {"BF16": (Q.BF16, gguf.LlamaFileType.MOSTLY_BF16), "F16": (Q.F16, gguf.LlamaFileType.MOSTLY_F16),
         "Q8_0": (Q.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0), "Q4_0": (Q.Q4_0, gguf.LlamaFileType.MOSTLY_Q4_0),
         "Q4_K_M": (Q.Q4_K, gguf.LlamaFileType.MOSTLY_Q4_K_M)}
POOL = 1 << 22  # elements that tensors are cut from
LOGIT_STD = 2.5
BRANCH_GAIN = 0.7


def prime_from(n):
    while any(n % d == 0 for d in range(2, math.isqrt(n) + 1)):
        n += 1
    return n


def bf16_bits(x):
    """Rounded to nearest, ties to even."""
    bits = x.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def pack_k_scales(scales):
    """[blocks, 8] of 6 bits, both scales and minima, in the 12 bytes of a Q4_K block (ggml-quants.c, get_scale_min_k4)."""
    low, high = scales[:, :4], scales[:, 4:]
    first = low | ((high >> 4) << 6)
    return np.concatenate([first, first, (high & 15) | ((high & 15) << 4)], axis=1).astype(np.uint8)


def half(blocks, value):
    return np.full((blocks, 1), value, np.float16).view(np.uint8)


def random_blocks(rng, kind, std, needed, rows):
    """uint8 [blocks, bytes of a block]: values around 0 with the standard deviation `std`. A prime number of blocks, more than
    `rows`: tensors of `needed` elements at most, which go around them, have so many different rows."""
    elements, _ = gguf.GGML_QUANT_SIZES[kind]
    blocks = prime_from(max(min(POOL, needed) // elements, rows + 1))
    if kind == Q.Q4_K:  # d * scale * (q - 7.5): a minimum of the scale times 7.5 d
        d = std / (47.5 * math.sqrt((16**2 - 1) / 12))
        scales = pack_k_scales(rng.integers(32, 64, (blocks, 8), np.uint8))
        codes = rng.integers(0, 256, (blocks, 128), np.uint8)
        return np.concatenate([half(blocks, d), half(blocks, 7.5 * d), scales, codes], axis=1)
    if kind == Q.Q6_K:
        d = std / (95.5 * math.sqrt((64**2 - 1) / 12))
        scales = rng.integers(64, 128, (blocks, 16), np.uint8)
        return np.concatenate([rng.integers(0, 256, (blocks, 192), np.uint8), scales, half(blocks, d)], axis=1)
    values = rng.standard_normal((blocks, elements), np.float32) * std
    if kind == Q.BF16:
        return bf16_bits(values).view(np.uint8)
    return gguf.quants.quantize(values, kind).view(np.uint8)


class Weights:
    """Bytes of tensors, cut from pools of random blocks."""

    def __init__(self, shape, seed):
        self.shape = shape
        self.largest = max(math.prod(parameter.shape) for parameter in parameters(shape))
        self.rng = np.random.default_rng(seed)
        self.pools = {}

    def std(self, parameter):
        if parameter.name in ("token_embd.weight", "output.weight"):
            return LOGIT_STD / math.sqrt(self.shape.hidden)
        gain = BRANCH_GAIN if "attn_output" in parameter.name or "ffn_down" in parameter.name else 1.0
        return gain / math.sqrt(parameter.shape[-1])

    def pieces(self, parameter, kind):
        """Arrays of uint8 that together are the tensor."""
        elements, size = gguf.GGML_QUANT_SIZES[kind]
        left = math.prod(parameter.shape) // elements * size
        if parameter.kind == "norm":
            values = (1 + 0.1 * self.rng.standard_normal(parameter.shape)).astype(np.float32)
            yield (bf16_bits(values) if kind == Q.BF16 else values).view(np.uint8)
            return
        key = (kind, self.std(parameter))
        if key not in self.pools:
            self.pools[key] = random_blocks(self.rng, *key, self.largest, self.shape.vocab).reshape(-1)
        pool = self.pools[key]
        start = int(self.rng.integers(pool.size // size)) * size
        while left > 0:
            piece = pool[start : start + left]
            yield piece
            left -= piece.size
            start = 0


def tensor_type(shape, file_type, parameter):
    if parameter.kind != "matrix":
        return Q.F32
    main = TYPES[file_type][0]
    name = parameter.name
    if name == "output.weight" or (shape.tied and name == "token_embd.weight"):
        return Q.Q6_K if main in (Q.Q4_0, Q.Q4_K) else main
    if main == Q.Q4_K and ("attn_v" in name or "ffn_down" in name):
        layer, eighth = int(name.split(".")[1]), shape.layers // 8
        more = layer < eighth or layer >= 7 * shape.layers // 8 or (layer - eighth) % 3 == 2
        if shape.experts == 8 and "attn_v" in name:
            return Q.Q8_0
        return Q.Q6_K if more else main
    if shape.experts == 8 and "attn_k." in name and main != Q.BF16:
        return Q.Q8_0
    return main


def write_metadata(writer, name, shape, file_type):
    writer.add_name(name)
    writer.add_file_type(TYPES[file_type][1])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_block_count(shape.layers)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.hidden)
    writer.add_feed_forward_length(shape.ffn)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_rope_dimension_count(shape.head_dim)
    writer.add_rope_freq_base(shape.theta)
    writer.add_layer_norm_rms_eps(shape.eps)
    writer.add_vocab_size(shape.vocab)
    if shape.experts:
        writer.add_expert_count(shape.experts)
        writer.add_expert_used_count(shape.chosen)
    tokens, merges = vocabulary(shape)
    kinds = [gguf.TokenType.UNUSED if token.startswith("[PAD") else gguf.TokenType.NORMAL for token in tokens]
    kinds[-2:] = [gguf.TokenType.CONTROL] * 2
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre({"llama": "llama-bpe", "qwen3": "qwen2", "olmoe": "olmo"}[shape.architecture])
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(shape.vocab - 2)
    writer.add_eos_token_id(shape.vocab - 1)
    writer.add_add_bos_token(False)


def write_gguf(path, name, shape, file_type, seed):
    writer = gguf.GGUFWriter(path, shape.architecture)
    write_metadata(writer, name, shape, file_type)
    tensors = [(parameter, tensor_type(shape, file_type, parameter)) for parameter in parameters(shape)]
    if shape.llama3_rope:
        writer.add_tensor_info("rope_freqs.weight", (shape.head_dim // 2,), np.dtype(np.float32), shape.head_dim // 2 * 4)
    for parameter, kind in tensors:
        elements, size = gguf.GGML_QUANT_SIZES[kind]
        stored = (*parameter.shape[:-1], parameter.shape[-1] // elements * size)
        dtype = np.float32 if kind == Q.F32 else np.uint8
        dims = parameter.shape if kind == Q.F32 else stored
        writer.add_tensor_info(parameter.name, dims, np.dtype(dtype), math.prod(stored), None if kind == Q.F32 else kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    weights = Weights(shape, seed)
    out = writer.fout[0]
    writer.write_padding(out, out.tell())
    if shape.llama3_rope:
        write_padded(writer, out, [np.array(rope_divisors(shape), np.float32)])
    for parameter, kind in tensors:
        write_padded(writer, out, weights.pieces(parameter, kind))
    writer.close()


def write_padded(writer, out, pieces):
    """A tensor's bytes, and zeros up to the alignment that the header's offsets count with."""
    size = 0
    for piece in pieces:
        out.write(memoryview(piece).cast("B"))
        size += piece.nbytes
    writer.write_padding(out, size)


def write_tokenizer(folder, shape):
    tokens, merges = vocabulary(shape)
    special = [{"id": shape.vocab - 2 + n, "content": tokens[n - 2], "single_word": False, "lstrip": False, "rstrip": False,
                "normalized": False, "special": True} for n in range(2)]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
             "fuse_unk": False, "byte_fallback": False, "vocab": {token: i for i, token in enumerate(tokens)}, "merges": merges}
    tokenizer = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": special, "normalizer": None,
                 "pre_tokenizer": byte_level, "post_processor": None, "decoder": byte_level, "model": model}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|end|>"}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def write_safetensors(folder, shape, seed):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(hf_config(shape), indent=1))
    write_tokenizer(folder, shape)
    header, offset = {}, 0
    for parameter in parameters(shape):
        split = shape.experts if "{e}" in parameter.hf else 1
        dims = parameter.shape[1:] if split > 1 else parameter.shape
        for e in range(split):
            size = 2 * math.prod(dims)
            entry = {"dtype": "BF16", "shape": dims, "data_offsets": [offset, offset + size]}
            header[parameter.hf.replace("{e}", str(e))] = entry
            offset += size
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    weights = Weights(shape, seed)
    with open(folder / "model.safetensors", "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for parameter in parameters(shape):
            for piece in weights.pieces(parameter, Q.BF16):
                out.write(memoryview(piece))


def make(folder, name, kind, layers, seed):
    """The path of the file or folder, made unless it is there."""
    shape = SHAPES[name] if layers is None else dataclasses.replace(SHAPES[name], layers=layers)
    stem = name if layers is None else f"{name}-{layers}-layers"
    final = folder / (f"{stem}-safetensors" if kind == "safetensors" else f"{stem}-{kind}.gguf")
    if final.exists():
        return final
    unfinished = final.with_name("unfinished-" + final.name)
    if kind == "safetensors":
        write_safetensors(unfinished, shape, seed)
    else:
        write_gguf(unfinished, stem, shape, kind, seed)
    return unfinished.rename(final)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--shapes", default="qwen3-0.6b,llama-3.2-1b,olmoe-1b-7b", help=f"of {', '.join(SHAPES)}")
    parser.add_argument("--types", default="BF16,Q8_0,Q4_0,Q4_K_M", help=f"of {', '.join(TYPES)}, safetensors")
    parser.add_argument("--layers", type=int, help="in place of the shape's own number")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for name in arguments.shapes.split(","):
        for kind in arguments.types.split(","):
            if name not in SHAPES or kind not in (*TYPES, "safetensors"):
                sys.exit(f"{name}, {kind}: there are the shapes {', '.join(SHAPES)}, the types {', '.join(TYPES)}, safetensors")
            print(make(arguments.folder, name, kind, arguments.layers, arguments.seed), flush=True)


if __name__ == "__main__":
    main()
