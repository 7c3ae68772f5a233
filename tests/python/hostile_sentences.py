"""What each file of hostile_files.py must make the program say. {} is the file, or the folder that says it; … ends what grows."""

SENTENCES = {
    "GGUF": {
        "empty": "{}: is not a GGUF file",
        "another magic": "{}: is not a GGUF file",
        "cut in its header": "{}: the file ends inside the header, after 9 bytes",
        "version 1": "{}: has the GGUF version 1; known are 2 and 3",
        "big-endian": "{}: is a big-endian GGUF file",
        "2^60 tensors": "{}: claims 1152921504606846976 tensors, the limit is 1000000",
        "2^60 keys": "{}: claims 1152921504606846976 keys, the limit is 100000",
        "an array of 2^60 bytes": "{}: the key \"k\" claims 1152921504606846976 elements of uint8, 0 bytes remain",
        "an array of 2^61 numbers of 8 bytes": "{}: the key \"k\" claims 2305843009213693952 elements of uint64, 0 bytes remain",
        "an array of 2^60 strings": "{}: the key \"k\" claims 1152921504606846976 strings, 0 bytes remain",
        "an array of 2^40 arrays": "{}: the key \"k\" is an array of arrays, which nest at most once",
        "a string of 2^64 - 1 bytes": "{}: the key \"k\" has 18446744073709551615 bytes, the limit is 67108864",
        "a string of 2^40 bytes": "{}: the key \"k\" has 1099511627776 bytes, the limit is 67108864",
        "a key of 2^63 bytes": "{}: the name of key 0 has 9223372036854775808 bytes, the limit is 256",
        "an unknown type of value": "{}: the key \"k\" has the unknown type 13",
        "a key twice": "{}: has the key \"k\" twice",
        "an alignment of 0": "{}: the key \"general.alignment\" is 0, not a power of two",
        "an alignment of 3": "{}: the key \"general.alignment\" is 3, not a power of two",
        "a product that wraps to 0": "{}: tensor \"t\" has the shape [4294967296, 4294967296], whose size overflows",
        "a product of three that wraps": "{}: tensor \"t\" has the shape [4, 2147483648, 2147483648], whose size overflows",
        "bytes that wrap": "{}: tensor \"t\" has the shape [4611686018427387904], whose size overflows",
        "a negative axis": "{}: tensor \"t\" has an axis outside 1 to 2^63 - 1",
        "an empty axis": "{}: tensor \"t\" has an axis outside 1 to 2^63 - 1",
        "five axes": "{}: tensor \"t\" has 5 axes, the limit is 4",
        "2^32 - 1 axes": "{}: tensor \"t\" has 4294967295 axes, the limit is 4",
        "an unknown type of tensor": "{}: tensor \"t\" has the unknown type 99",
        "a negative type of tensor": "{}: tensor \"t\" has the unknown type 4294967295",
        "half a block": "{}: tensor \"t\" has rows of 40 elements, which are not whole blocks of Q8_0, 32 each",
        "data past the end": "{}: tensor \"t\" needs 4194304 bytes at offset 0 of the data, which has 64",
        "an offset near 2^64": "{}: tensor \"t\" needs 32 bytes at offset 18446744073709551584 of the data, which has 32",
        "an offset between blocks": "{}: tensor \"t\" lies at offset 4, which is no multiple of the alignment 32",
        "tensors on the same bytes": "{}: tensor \"t\" overlaps tensor \"u\"",
        "a tensor twice": "{}: has the tensor \"t\" twice",
        "a name of 257 bytes": "{}: the name of tensor 0 has 257 bytes, the limit is 256",
        "a part of 65535": "{}: is part 1 of 65535, but its name does not end in -00001-of-65535.gguf",
        "no architecture": "{}: has no key \"general.architecture\" that is a string",
        "an architecture that is a number": "{}: has no key \"general.architecture\" that is a string",
        "an architecture of nobody": "{}: the GGUF architecture \"nobody [31m x\" is not known",
    },
    "VOCABULARIES": {
        "2^60 tokens": "{}: the key \"tokenizer.ggml.tokens\" claims 1152921504606846976 strings, 0 bytes remain",
        "no merges": "{}: tokenizer.ggml.merges is absent or empty",
        "a merge of nothing": "{}: merge 1 has no space between two pieces",
        "a merge of strangers": "{}: merge 0 names \"c\", which is not in the vocabulary",
        "a merge that makes no token": "{}: merge 0 names \"ba\", which is not in the vocabulary",
        "a merge twice": "{}: merge 1 is there twice",
        "a merge with nothing": "{}: merge 0 names \"\", which is not in the vocabulary",
        "a token twice": "{}: the token \"a\" is there twice, with the ids 0 and 1",
        "a token that is no UTF-8": "{}: token 1 is not UTF-8",
        "a model of nobody": "{}: tokenizer.ggml.model \"nobody\" is not supported",
        "a pre-tokenizer of nobody": "{}: tokenizer.ggml.pre \"nobody\" is not supported",
        "more types than tokens": "{}: the key \"tokenizer.ggml.token_type\" has 4 entries, there are 3 tokens",
        "a type outside the list": "{}: the key \"tokenizer.ggml.token_type\" has entry 2 out of range",
        "an end outside the vocabulary": "{}: the key \"tokenizer.ggml.eos_token_id\" is not an id of 0 to 2",
        "no scores": "{}: 2 tokens need as many scores and types, not 0 and 0",
        "a score of NaN": "{}: piece 1 has a score that is not finite",
        "an infinite score": "{}: piece 1 has a score that is not finite",
        "Unigram without unknown": "{}: a Unigram model without an unknown piece",
        "a map of 3 bytes": "{}: precompiled_charsmap has 3 bytes, fewer than its header",
        "a map larger than it is": "{}: precompiled_charsmap claims a table of 4294967295 bytes where 4 remain",
        "WordPiece without unknown": "{}: tokenizer.ggml.unknown_token_id is absent",
        "an embedded text that is cut": (
            "{}: tokenizer.huggingface.json: not JSON: The JSON document has an improper structure: missing or superf"
            "luous commas, braces, missing keys, etc."
        ),
        "an embedded text with more tokens": "{}: tokenizer.huggingface.json has 1001 tokens, tokenizer.ggml.tokens 1",
    },
    "SAFETENSORS": {
        "empty": "{}: has 0 bytes, a safetensors file has at least 8",
        "cut in its length": "{}: has 3 bytes, a safetensors file has at least 8",
        "a header of 2^60 bytes": "{}: its header claims 1152921504606846976 bytes, the limit is 100000000",
        "a header of 2^64 - 1 bytes": "{}: its header claims 18446744073709551615 bytes, the limit is 100000000",
        "a header longer than the file": "{}: its header claims 3 bytes, the file has 2 after the length",
        "no JSON": "{}: its header does not start with {",
        "zeros": "{}: its header does not start with {",
        "a list": "{}: its header does not start with {",
        "deep nesting": "{}: its header does not start with {",
        "deep objects": "{}: its header is not a valid JSON object",
        "a tensor twice": "{}: its header has the key \"t\" twice",
        "a shape twice": "{}: tensor \"t\" has the key \"shape\" twice",
        "a product that wraps": "{}: tensor \"t\" has the shape [4294967296, 4294967296], whose size overflows",
        "a product of three that wraps": "{}: tensor \"t\" has the shape [2147483648, 2147483648, 4], whose size overflows",
        "a negative axis": "{}: tensor \"t\" has a shape with an axis that is not a count",
        "a broken axis": "{}: tensor \"t\" has a shape with an axis that is not a count",
        "an axis of 2^70": "{}: its header is not a valid JSON object",
        "offsets backwards": "{}: tensor \"t\" lies at bytes 4 to 0, where the data before it ends at 0",
        "offsets near 2^64": "{}: its header is not a valid JSON object",
        "data past the end": "{}: tensor \"t\" ends at byte 8 of the data, which has 4",
        "a hole": "{}: tensor \"u\" lies at bytes 8 to 12, where the data before it ends at 4",
        "tensors on the same bytes": "{}: tensor \"u\" lies at bytes 4 to 8, where the data before it ends at 8",
        "bytes behind the last": "{}: its tensors end at byte 4 of the data, which has 8",
        "another size than the shape": "{}: tensor \"t\" has 4 bytes, its shape [2] of F32 needs 8",
        "an unknown dtype": "{}: tensor \"t\" has the unknown dtype \"F33\"",
        "no offsets": "{}: tensor \"t\" lacks one of dtype, shape and data_offsets",
    },
    "INDEXES": {
        "no JSON": "{}/model.safetensors.index.json: is not a JSON object with an object weight_map",
        "a list": "{}/model.safetensors.index.json: is not a JSON object with an object weight_map",
        "no map": "{}/model.safetensors.index.json: is not a JSON object with an object weight_map",
        "deep nesting": "{}/model.safetensors.index.json: is not a JSON object with an object weight_map",
        "a map that is a list": "{}/model.safetensors.index.json: is not a JSON object with an object weight_map",
        "a name that is a number": "{}/model.safetensors.index.json: puts the tensor \"t\" in a file whose name is not a string",
        "a name that leads out": (
            "{}/model.safetensors.index.json: puts the tensor \"t\" in \"../model.safetensors\", which is not a name of a"
            " file beside it"
        ),
        "a name from the root": (
            "{}/model.safetensors.index.json: puts the tensor \"t\" in \"/etc/passwd\", which is not a name of a file bes"
            "ide it"
        ),
        "a name into a folder": (
            "{}/model.safetensors.index.json: puts the tensor \"t\" in \"a/b.safetensors\", which is not a name of a file"
            " beside it"
        ),
        "a name with a zero byte": (
            "{}/model.safetensors.index.json: puts the tensor \"t\" in \"a b\", which is not a name of a file beside it"
        ),
        "no name": "{}/model.safetensors.index.json: puts the tensor \"t\" in a file whose name is not a string",
        "a file that is not there": "{}/absent.safetensors: cannot open: No such file or directory",
    },
    "CONFIGS": {
        "empty": "{}: is not valid JSON at byte 1",
        "cut": "{}: is not valid JSON at byte 2",
        "a list": "{}: is not a JSON object",
        "no UTF-8": "{}: is not valid JSON at byte 1",
        "deep nesting": "{}: nests deeper than 32 levels of JSON",
        "deep objects": "{}: nests deeper than 32 levels of JSON",
        "no model_type": "{}: has no \"model_type\" that is a string",
        "a model_type of nobody": "{}: model_type \"nobody\" is not known; known are …",
        "a model_type that is a number": "{}: has no \"model_type\" that is a string",
    },
    "CHANGED_CONFIGS": {
        "2^40 channels": "{}/config.json: \"hidden_size\" is 1099511627776, outside 1 to 2147483647",
        "-1 channels": "{}/config.json: \"hidden_size\" is -1, outside 1 to 2147483647",
        "10^9 layers": "{}/config.json: \"num_hidden_layers\" is 1000000000, outside 1 to 2048",
        "2^31 tokens": "{}/config.json: \"vocab_size\" is 2147483648, outside 1 to 2147483647",
        "1e400 as epsilon": "{}/config.json: \"rms_norm_eps\" is \"1e400\", not a number",
        "no heads": "{}/config.json: \"num_attention_heads\" is 0, outside 1 to 2147483647",
        "three key heads": (
            "{}/config.json: stage layers.0.attn: queries [4, 96], keys [3, 96] and values [3, 96] do not fit: key he"
            "ads must divide query heads, and queries and keys be equally wide"
        ),
        "no layers": "{}/config.json: \"num_hidden_layers\" is 0, outside 1 to 2048",
        "channels that are a word": "{}/config.json: \"hidden_size\" is \"many\", not an integer",
        "an odd head": (
            "{}/config.json: stage layers.0.attn.q_rope: cannot rotate 95 channels of [4, 95]: the count must be even"
            " and at most the head's size"
        ),
        "a token too few": (
            "{}/model.safetensors: the tensor \"model.embed_tokens.weight\" has the shape [1024, 256], which does not g"
            "ive \"model.embed_tokens.weight\" of shape [1023, 256]"
        ),
        "layer types too few": "{}/config.json: \"layer_types\" has 1 entries, num_hidden_layers is 4",
        "a scaling of nobody": (
            "{}/config.json: rope_type \"imagined\" is not known; known are default, linear, dynamic, yarn, llama3 and "
            "longrope"
        ),
        "an activation of nobody": (
            "{}/config.json: hidden_act \"imagined\" is not known; known are silu, gelu, gelu_pytorch_tanh and relu"
        ),
        "no width": "{}/config.json: has no \"intermediate_size\"",
    },
    "TOKENIZER_JSONS": {
        "empty": "{}: not JSON: Empty: no JSON found",
        "cut": (
            "{}: not JSON: The JSON document has an improper structure: missing or superfluous commas, braces, missin"
            "g keys, etc."
        ),
        "a list": "{}: must be an object, not an array",
        "no UTF-8": "{}: not JSON: The input is not valid UTF-8",
        "no model": "{}: lacks \"model\"",
        "deep nesting": (
            "{}: not JSON: The JSON document has an improper structure: missing or superfluous commas, braces, missin"
            "g keys, etc."
        ),
        "deep objects": (
            "{}: not JSON: The JSON document has an improper structure: missing or superfluous commas, braces, missin"
            "g keys, etc."
        ),
        "sequences in sequences": "{}: not JSON: The JSON document was too deep (too many nested objects and arrays)",
        "an id of -1": "{}: model.vocab[\"a\"] is -1, outside 0 to 2147483647",
        "an id of 10^10": "{}: model.vocab[\"a\"] is 10000000000, outside 0 to 2147483647",
        "an id twice": "{}: the tokens \"a\" and \"b\" share the id 0",
        "a token twice": "{}: model.vocab: the token \"a\" is there twice, with the ids 0 and 1",
        "a merge of strangers": "{}: model.merges[0] names \"c\", which is not in the vocabulary",
        "a merge of three": "{}: model.merges[0] must be two pieces, as an array or with one space between them",
        "a merge twice": "{}: model.merges cannot be used: merge 1 is there twice",
        "an added token of 2^63": "{}: added_tokens[0].id must be an integer of at most 2147483647",
        "an added token that contradicts": (
            "{}: the added token \"x\" with the id 0 contradicts the vocabulary's \"a\" with the id 0"
        ),
        "an unknown model": "{}: model has the unknown type \"Imagined\"",
        "an unknown normalizer": "{}: normalizer has the unknown normalizer \"Imagined\"",
        "an unknown pre-tokenizer": "{}: pre_tokenizer has the unknown pre-tokenizer \"Imagined\"",
        "an unknown post-processor": "{}: post_processor has the unknown post-processor \"Imagined\"",
        "an unknown decoder": "{}: decoder has the unknown decoder \"Imagined\"",
        "a template of 10^5 parts": "{}: post_processor.single has 100000 parts, over the limit of 64",
        "a template with an id outside": "{}: post_processor names the id 9, which no token has",
        "a map that is no base64": "{}: normalizer.precompiled_charsmap is not base64",
        "a map that is cut": "{}: normalizer.precompiled_charsmap claims a table of 2147483647 bytes where 0 remain",
        "a pattern with a back reference": (
            "{}: pre_tokenizer.pattern: pattern \"(a+)+\\1$\", byte 7: the escape \\1 is not supported"
        ),
        "a pattern of nested repeats": (
            "{}: pre_tokenizer.pattern: pattern \"(?:(?:(?:(?:(?:(?:(?:(?:(?:(?:(?:(?:(?:(?:(?:(?:(?:(?:(?:(?:(?:(?:(?"
            ":(?:(?:(?:(?:(?:(?:(?:(?:(?:(?:(?:(?:(?:(?:(?:(?:(?:\" is too large for a table"
        ),
        "a pattern of 10^5 groups": (
            "{}: pre_tokenizer.pattern: pattern \"(((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((("
            "((((((((((((((((((((((((((((((((((((((((((((((((((((\"..., byte 50: nesting deeper than 50 is not support"
            "ed"
        ),
        "a pattern of a million letters": (
            "{}: pre_tokenizer.pattern: pattern \"a{1000}a{1000}a{1000}a{1000}a{1000}a{1000}a{1000}a{1000}a{1000}a{100"
            "0}a{1000}a{1000}a{1000}a{1000}a{1000}a{1000}a{1000}a\" is too large for a table"
        ),
        "a pattern without end": "{}: pre_tokenizer.pattern: pattern \"[a\", byte 2: a set without its end is not supported",
        "a Unigram without unknown": "{}: model.unk_id is 7, outside 0 to 0",
        "a score that is a text": "{}: model.vocab[0] must be a piece and its score",
        "a WordPiece without unknown": "{}: model has the unk_token \"[UNK]\", which is not in the vocabulary",
    },
    "MODELS": {
        "empty": "{}: holds no pieces",
        "a piece of 2^60 bytes": "{}: cut off or not a SentencePiece model",
        "a number without end": "{}: cut off or not a SentencePiece model",
        "a piece that is cut": "{}: cut off or not a SentencePiece model",
        "a score of NaN": "{}: piece 0 has a score that is not finite",
        "a type outside the list": "{}: piece 0 has the type 77, outside 1 to 6",
        "a piece of 2000 bytes": "{}: piece 0 has 2000 bytes, over the limit of 1024",
        "a piece that is no UTF-8": "{}: piece 0 is not UTF-8",
        "a piece twice": "{}: the token \"a\" is there twice, with the ids 0 and 1",
        "Unigram without unknown": "{}: a Unigram model without an unknown piece",
        "a kind of nobody": "{}: model type 9 is neither Unigram (1) nor BPE (2)",
        "a map that is cut": "{}: precompiled_charsmap has 3 bytes, fewer than its header",
        "ranks without a byte": "{}: lacks a token for the byte 0",
        "ranks twice": "{}: lacks a token for the byte 0",
        "a rank of 2^31": "{}: cut off or not a SentencePiece model",
    },
    "NO_FILE": {
        "folder beside": "{}: is not a regular file",
        "fifo beside": "{}: is not a regular file",
        "endless beside": "{}: is not a regular file",
        "loop beside": "{}: cannot open: Too many levels of symbolic links",
        "folder gguf": "{}: is not a regular file",
        "fifo gguf": "{}: is not a regular file",
        "endless gguf": "{}: is not a regular file",
        "loop gguf": "{}: there is no such file or folder",
    },
}
