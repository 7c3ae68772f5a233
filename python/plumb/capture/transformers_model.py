"""Capturing a transformers model: hooks on its modules, a watch on the functions that its file calls between them (rotation,
attention, delta rule), and on single torch calls inside of those. Every one of them runs as it is and sees what it would see;
values are copied out at once, since some are changed in place later (OLMoE's clamp).

Written against transformers 5.23 (models/*/modeling_*.py)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from plumb import _numbers
from plumb.capture import stages as forms
from plumb.capture.recorder import Recorder, checkpoint_config, jsonable
from plumb.capture.stages import Form, Sizes, Watch
from plumb.capture.transformers_functions import Functions, Layer

# Of these the norms of queries and keys see [1, heads, tokens, dim].
_HEADS_BEFORE_TOKENS = {"gemma3", "gemma3_text", "deepseek_v4"}
_SCORES = 'attention runs as one fused call ({}); load the model with attn_implementation="eager" to see it'


class TransformersCapture:
    """What plumb.capture installs for a transformers model, and takes away."""

    def __init__(self, model: torch.nn.Module, recorder: Recorder) -> None:
        if hasattr(model, "_orig_mod"):
            raise TypeError(
                "the model is compiled, and its modules do not run one by one: capture the model as it was before torch.compile"
            )
        self._model, self._recorder = model, recorder
        self._decoder_path, self._decoder = _find_decoder(model)
        self._handles: list[Any] = []
        self._functions = Functions(recorder, self._record)
        self._config = model.config.get_text_config()
        self._expected: dict[str, str] = {}

    def describe(self, trace) -> None:
        import transformers

        implementation = self._config._attn_implementation
        settings = {"attn_implementation": implementation, "torch": torch.__version__}
        experts = getattr(self._config, "_experts_implementation", None)
        if experts:
            settings["experts_implementation"] = experts
        trace.engine = {"name": "transformers", "version": transformers.__version__, "settings": settings}
        name = self._model.config._name_or_path
        config = checkpoint_config(name) or jsonable(self._model.config.to_diff_dict())
        trace.model = {"name": name, "model_type": self._model.config.model_type, "config": config}
        trace.dtype = str(self._model.dtype).removeprefix("torch.")

    # Installing.

    def install(self) -> None:
        self._hook(self._model, before=self._begin, after=self._end)
        self._watch(self._decoder.embed_tokens, None, [Watch("embed", "out", forms.flat)])
        self._watch(self._decoder.norm, None, [Watch("norm", "out", forms.rows)])
        if hasattr(self._decoder, "hc_head"):
            self._watch(self._decoder.hc_head, None, [Watch("hc_head.collapsed", "out", forms.flat)])
            self._scope(self._decoder.hc_head, "hc_head", None)
        for number, module in enumerate(self._decoder.layers):
            self._install_layer(number, module)
        for namespace in {
            type(m).__module__ for m in self._decoder.modules() if type(m).__module__.startswith("transformers.models.")
        }:
            self._functions.wrap(sys.modules[namespace])
        self._expected |= dict.fromkeys(("embed", "norm", "logits"), "the model that was captured ends before it")
        if hasattr(self._model, "generate"):
            self._model.generate = self._watched_generation(self._model.generate)  # on this object alone, until remove()
        self._functions.start()

    def remove(self) -> None:
        """Leaves the model and transformers as they were."""
        self._functions.stop()
        for handle in self._handles:
            handle.remove()
        vars(self._model).pop("generate", None)
        self._recorder.note_missing(self._expected, len(self._decoder.layers))

    def _install_layer(self, number: int, module: torch.nn.Module) -> None:
        layer = Layer(number, module, _sizes_of(module))
        parts = dict(module.named_modules())
        if self._recorder.chosen.layer(number):
            before_tokens = self._config.model_type in _HEADS_BEFORE_TOKENS
            for path, watches in forms.layer_watches(lambda p: p in parts, heads_before_tokens=before_tokens).items():
                self._watch(parts[path], layer, watches)
            self._watch_projections(layer, parts)
            self._watch_index(layer, parts)
            self._watch_experts(layer, parts)
            last = "streams" if "attn_hc" in parts else "residual"
            self._watch(module, layer, [Watch(last, "out", forms.streams if last == "streams" else forms.flat)])
            if number == 0 and last == "streams":
                self._watch(module, None, [Watch("streams", "in", forms.streams)])
        for path, kind in (
            ("self_attn", "attention"),
            ("linear_attn", "delta"),
            ("self_attn.compressor", "compressor"),
            ("self_attn.compressor.indexer", "indexer"),
            ("mlp.gate", "router"),
            ("mlp.router", "router"),
            ("mlp", "mlp"),
            ("attn_hc", "hc_attn"),
            ("ffn_hc", "hc_mlp"),
        ):
            if path in parts:
                self._scope(parts[path], kind, layer)
        self._expect(layer, parts)

    def _watch_projections(self, layer: Layer, parts: dict[str, torch.nn.Module]) -> None:
        """Queries, which come alone, with a gate, or with keys and values."""
        q, qkv = parts.get("self_attn.q_proj"), parts.get("self_attn.qkv_proj")
        latent = "self_attn.kv_a_proj_with_mqa" in parts  # whose queries and values differ in width
        if q is not None and not latent and q.out_features == 2 * parts["self_attn.o_proj"].in_features:
            self._watch(
                q,
                layer,
                [
                    Watch("attn.q_and_gate", "out", forms.two_per_head),
                    Watch("attn.q", "out", forms.first_of_two),
                    Watch("attn.gate", "out", forms.second_of_two),
                ],
            )
            self._watch(parts["self_attn.o_proj"], layer, [Watch("attn.gated", "in", forms.heads)])
        elif q is not None:
            self._watch(q, layer, [Watch("attn.q", "out", forms.heads)])
        if qkv is not None:
            first = parts["self_attn.o_proj"].in_features
            second = first + (qkv.out_features - first) // 2
            bounds = {"attn.q": (0, first), "attn.k": (first, second), "attn.v": (second, qkv.out_features)}
            self._watch(qkv, layer, [Watch(stage, "out", forms.slice_of(*bound)) for stage, bound in bounds.items()])

    def _watch_index(self, layer: Layer, parts: dict[str, torch.nn.Module]) -> None:
        indexer = parts.get("self_attn.compressor.indexer")
        if indexer is not None:
            width = indexer.head_dim
            self._watch(indexer.q_b_proj, layer, [Watch("attn.index_q", "out", lambda x, s: x.reshape(s.tokens, -1, width))])

    def _watch_experts(self, layer: Layer, parts: dict[str, torch.nn.Module]) -> None:
        router = parts.get("mlp.router") or parts.get("mlp.gate")
        if router is None:
            return
        # A router yields logits, weights and ids.
        self._watch(
            router,
            layer,
            [
                Watch("moe.logits", "out0", forms.flat),
                Watch("moe.ids", "out2", forms.flat),
                Watch("moe.weights", "out1", forms.flat),
            ],
        )
        if "mlp.gate.score_fn" in parts:
            self._watch(parts["mlp.gate.score_fn"], layer, [Watch("moe.probs", "out", forms.flat)])
        if "mlp.shared_expert" in parts or "mlp.shared_experts" in parts:
            self._watch(parts["mlp.experts"], layer, [Watch("moe.routed", "out", forms.flat)])

    def _expect(self, layer: Layer, parts: dict[str, torch.nn.Module]) -> None:
        """What docs/trace-format.md has of such a layer, and why it may be missing."""

        def expect(why: str, *names: str) -> None:
            self._expected |= {layer.prefix + name: why for name in names}

        nowhere = "this version of transformers does not yield it where it is looked for"
        if "self_attn" in parts:
            implementation = self._config._attn_implementation
            expect(_SCORES.format(implementation) if implementation != "eager" else nowhere, "attn.scores", "attn.probs")
            rotates = getattr(parts["self_attn"], "use_rope", True)
            names = ["attn.q", "attn.context", "attn.out"] + (["attn.q_rope"] if rotates else [])
            latent = "self_attn.kv_proj" in parts
            names += [] if latent else ["attn.v"] + (["attn.k_rope"] if rotates else [])
            expect(nowhere, *names)
        if "linear_attn" in parts:
            expect("no cache was passed, and the model forgets the state", "linear.state")
            expect(
                nowhere,
                *(f"linear.{name}" for name in ("qkv", "z", "b", "a", "conv", "q", "k", "v", "beta", "g", "context", "norm")),
            )
        if "mlp.experts" in parts:
            chosen_first = "the router selects before it scores, and has no probabilities of all experts"
            expect(chosen_first if "mlp.router" in parts else nowhere, "moe.probs")
            expect(nowhere, "moe.logits", "moe.ids", "moe.weights")
        if "attn_hc" in parts:
            expect(nowhere, *(f"{half}.{name}" for half in ("hc_attn", "hc_mlp") for name in ("pre", "post", "comb")), "streams")
        else:
            expect(nowhere, "attn.residual", "residual")

    # Hooks.

    def _hook(self, module: torch.nn.Module, before=None, after=None) -> None:
        if before:
            self._handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
        if after:
            self._handles.append(module.register_forward_hook(after, with_kwargs=True, always_call=True))

    def _scope(self, module: torch.nn.Module, kind: str, layer: Layer | None) -> None:
        def enter(_module, _args, _kwargs):
            self._functions.enter(kind, layer)

        def leave(_module, _args, _kwargs, _output):
            self._functions.leave()

        self._handles.append(module.register_forward_pre_hook(enter, with_kwargs=True, prepend=True))
        self._handles.append(module.register_forward_hook(leave, with_kwargs=True, always_call=True))

    def _watch(self, module: torch.nn.Module, layer: Layer | None, watches: list[Watch]) -> None:
        inputs = [w for w in watches if w.side.startswith("in")]
        outputs = [w for w in watches if w.side.startswith("out")]

        def before(_module, args, kwargs):
            given = [*args, *kwargs.values()]
            for watch in inputs:
                self._record(layer, watch.stage, given[int(watch.side[2:] or 0)], watch.form)

        def after(_module, _args, _kwargs, output):
            for watch in outputs:
                index = watch.side[3:]
                value = output[int(index or 0)] if isinstance(output, tuple) else output
                self._record(layer, watch.stage, value, watch.form)

        self._hook(module, before if inputs else None, after if outputs else None)

    def _begin(self, _model, args, kwargs) -> None:
        ids = kwargs.get("input_ids", args[0] if args else None)
        if ids is None:
            raise TypeError("the model is called without input_ids; a trace begins with the ids that were fed")
        cache, positions = kwargs.get("past_key_values"), kwargs.get("position_ids")
        if positions is not None:
            first = int(positions.reshape(-1)[0])
        else:
            first = int(cache.get_seq_length()) if cache is not None else 0
        mask = kwargs.get("attention_mask")
        if isinstance(mask, torch.Tensor) and mask.ndim == 2 and not bool(mask.bool().all()):
            self._recorder.trace.extra["attention_mask"] = mask[0].int().tolist()
        self._recorder.begin(ids.detach().cpu().numpy(), first)

    def _end(self, _model, _args, _kwargs, output) -> None:
        if output is not None and self._recorder.running:
            logits = output.get("logits") if hasattr(output, "get") else output[0]
            if logits is not None and self._decoder is not self._model:
                self._record(None, "logits", logits, forms.rows)
        self._recorder.end()

    def _watched_generation(self, generate: Callable) -> Callable:
        """generate() tells what the passes do not: the last token, which is fed to none, how tokens are chosen, and where it
        ends."""

        def watched(inputs=None, generation_config=None, **kwargs):
            result = generate(inputs, generation_config, **kwargs)
            trace = self._recorder.trace
            sequence = (result if isinstance(result, torch.Tensor) else result.sequences)[0].tolist()
            fed = trace.token_ids + trace.generated
            if sequence[: len(fed)] == fed:
                trace.generated = sequence[len(trace.token_ids) :]
            config = generation_config or self._model.generation_config
            settings = {key: kwargs.get(key, getattr(config, key, None)) for key in _SAMPLER}
            used = {key: value for key, value in settings.items() if value is not None and key != "do_sample"}
            greedy = {"temperature": 0} | {key: used[key] for key in ("repetition_penalty",) if key in used}
            trace.sampler = used if settings["do_sample"] else greedy
            stops = kwargs.get("eos_token_id", config.eos_token_id)
            trace.stop_ids = [] if stops is None else [int(i) for i in np.atleast_1d(stops)]
            return result

        return watched

    def _record(self, layer: Layer | None, stage: str, value: Any, form: Form) -> None:
        if not self._recorder.running or not isinstance(value, torch.Tensor):
            return
        name = (layer.prefix if layer else "") + stage
        if not self._recorder.chosen(name):
            return
        bits, dtype = bits_of(value)
        tokens = self._recorder.tokens
        self._recorder.record(name, bits, dtype, form, layer.sizes(tokens) if layer else Sizes(tokens))


_SAMPLER = ("do_sample", "temperature", "top_k", "top_p", "min_p", "repetition_penalty")


def bits_of(tensor: torch.Tensor) -> tuple[np.ndarray, str]:
    """A copy of a tensor's stored bits, and their number type."""
    dtype = _numbers.dtype_name(str(tensor.dtype))
    held = tensor.detach().cpu().contiguous()
    if dtype in _numbers.WIDENED:
        held = held.view(torch.int16 if dtype == "BF16" else torch.uint8)
    return held.numpy().copy().view(_numbers.storage_of(dtype)), dtype


def _find_decoder(model: torch.nn.Module) -> tuple[str, torch.nn.Module]:
    """The module with embed_tokens, layers and norm: the model itself, or inside of its wrappers."""
    for path, module in model.named_modules():
        if all(hasattr(module, name) for name in ("embed_tokens", "layers", "norm")) and len(module.layers) > 0:
            return path, module
    raise TypeError(f"{type(model).__name__} has no decoder with embed_tokens, layers and norm")


def _sizes_of(layer: torch.nn.Module) -> Callable[[int], Sizes]:
    attention, delta = getattr(layer, "self_attn", None), getattr(layer, "linear_attn", None)
    if attention is not None:
        head_dim = getattr(attention, "qk_head_dim", None) or attention.head_dim
        value_dim = getattr(attention, "v_head_dim", None) or head_dim
        return lambda tokens: Sizes(tokens, head_dim, value_dim)
    return lambda tokens: Sizes(tokens, value_dim=delta.head_v_dim, key_dim=delta.head_k_dim)
