"""GGUF files as the `gguf` package writes them from others."""

import gguf


def rewrite(source, out, stored=lambda tensor: (tensor.data, tensor.tensor_type), **options):
    """`source` with every field again; `stored` says each tensor's bytes and type. Options are GGUFWriter's."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(out, reader.get_field("general.architecture").contents(), **options)
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name != "general.architecture":
            writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=field.types[-1] if len(field.types) > 1 else None)
    for tensor in reader.tensors:
        data, kind = stored(tensor)
        writer.add_tensor(tensor.name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def with_matrices_as(kind):
    """For rewrite(): the matrices of an F32 file whose rows are whole blocks, as blocks of this type."""

    def stored(tensor):
        block = gguf.GGML_QUANT_SIZES[kind][0]
        if len(tensor.shape) < 2 or tensor.shape[0] % block or tensor.name == "token_embd.weight":
            return tensor.data, tensor.tensor_type
        return gguf.quants.quantize(tensor.data, kind), kind

    return stored
