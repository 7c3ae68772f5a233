"""Capturing an mlx-lm model: its modules' calls are watched through their classes, and so are the functions that its file calls
between them (attention, delta rule). What passes is kept as MLX has it, unevaluated, and copied out when the forward pass ends.

Written against mlx-lm 0.32 (mlx_lm/models/*.py)."""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
import numpy as np

from plumb import _numbers
from plumb.capture import stages as forms
from plumb.capture.recorder import Recorder, jsonable
from plumb.capture.stages import Form, Sizes, Watch

_HEADS_BEFORE_TOKENS = {"gemma3", "gemma3_text"}
# Blocks whose file keeps the routing weights as an array that it hands on; OLMoE's and Qwen3-Next's renormalised ones are a new
# array.
_WEIGHTS_SEEN = {"MixtralSparseMoeBlock", "Qwen3MoeSparseMoeBlock", "OlmoeSparseMoeBlock", "Qwen3NextSparseMoeBlock", "MLPBlock"}
_RENORMALISED_ELSEWHERE = {"OlmoeSparseMoeBlock", "Qwen3NextSparseMoeBlock"}
_FUSED = "attention runs as one fused call (mx.fast.scaled_dot_product_attention)"
_ABSORBED = "the projections of keys and values are absorbed into the queries and the output, and heads are never formed"
_NOWHERE = "this version of mlx-lm does not yield it where it is looked for"


@dataclass
class _Layer:
    number: int
    module: Any
    sizes: Callable[[int], Sizes]
    seen: dict[str, Any] = field(default_factory=dict)

    @property
    def prefix(self) -> str:
        return f"layers.{self.number}."


Before = Callable[[tuple, dict], None]
After = Callable[[tuple, dict, Any], None]


class MlxCapture:
    """What plumb.capture installs for an mlx-lm model, and takes away."""

    def __init__(self, model: Any, recorder: Recorder) -> None:
        self._model, self._recorder = model, recorder
        self._decoder = _find_decoder(model)
        self._args = _model_args(model)
        self._hooks: dict[int, tuple[list[Before], list[After]]] = {}
        self._classes: set[type] = set()
        self._active: set[int] = set()
        self._replaced: list[tuple[Any, str, Any]] = []
        self._running: list[_Layer] = []
        self._pending: list[tuple[_Layer | None, str, mx.array, Form]] = []
        self._expected: dict[str, str] = {}

    def describe(self, trace) -> None:
        import mlx_lm

        trace.engine = {
            "name": "mlx-lm",
            "version": mlx_lm.__version__,
            "settings": {"mlx": mx.__version__, "device": str(mx.default_device().type).removeprefix("DeviceType.")},
        }
        args = jsonable(dataclasses.asdict(self._model.args)) if dataclasses.is_dataclass(self._model.args) else {}
        trace.engine["settings"]["args"] = args
        trace.model = {"name": None, "model_type": getattr(self._model, "model_type", None), "config": {}}

    # Installing.

    def install(self) -> None:
        self._hook(self._model, self._begin, self._end)
        self._watch(self._decoder.norm, None, [Watch("norm", "out", forms.rows)])
        layers = list(self._decoder.layers)
        self._watch(layers[0], None, [Watch("embed", "in", forms.flat)])  # after any scale
        for number, module in enumerate(layers):
            self._install_layer(number, module)
        for cls in self._classes:
            self._wrap_class(cls)
        for name in {type(module).__module__ for _, module in self._decoder.named_modules()}:
            if name.startswith("mlx_lm.models.") and name in sys.modules:
                self._wrap_functions(sys.modules[name])
        self._wrap_functions(sys.modules.get("mlx_lm.models.gated_delta"))
        generation = sys.modules.get("mlx_lm.generate")
        if generation is not None and hasattr(generation, "generate_step"):
            self._wrap_generation(generation)
        self._expected |= dict.fromkeys(("embed", "norm", "logits"), "the model that was captured ends before it")

    def remove(self) -> None:
        for owner, name, original in reversed(self._replaced):
            setattr(owner, name, original)
        self._recorder.note_missing(self._expected, len(self._decoder.layers))

    def _install_layer(self, number: int, module: Any) -> None:
        layer = _Layer(number, module, _sizes_of(module))
        parts = {path: part for path, part in module.named_modules() if path}
        if not self._recorder.chosen.layer(number):
            return
        # Layers are entered through their mixers and their MLP: what is called inside belongs to them.
        for path in ("self_attn", "linear_attn", "mlp", "block_sparse_moe"):
            if path in parts:
                self._hook(parts[path], functools.partial(self._enter, layer), None)
        before_tokens = self._args.get("model_type") in _HEADS_BEFORE_TOKENS
        for path, watches in forms.layer_watches(lambda p: p in parts, heads_before_tokens=before_tokens).items():
            self._watch(parts[path], layer, watches)
        self._watch_attention(layer, parts)
        self._watch_experts(layer, parts)
        self._watch(module, layer, [Watch("residual", "out", forms.flat)])
        for path in ("self_attn", "linear_attn", "mlp", "block_sparse_moe"):
            if path in parts:
                self._hook(parts[path], None, self._leave)
        self._expect(layer, parts)

    def _watch_attention(self, layer: _Layer, parts: dict[str, Any]) -> None:
        out = parts.get("self_attn.o_proj")
        if out is None:
            return
        latent = "self_attn.kv_a_proj_with_mqa" in parts
        q, qkv = parts.get("self_attn.q_proj"), parts.get("self_attn.qkv_proj")
        gated = _is_gated(layer.module.self_attn)
        if gated:
            self._watch(
                q,
                layer,
                [
                    Watch("attn.q_and_gate", "out", forms.two_per_head),
                    Watch("attn.q", "out", forms.first_of_two),
                    Watch("attn.gate", "out", forms.second_of_two),
                ],
            )
        elif q is not None:
            self._watch(q, layer, [Watch("attn.q", "out", forms.heads)])
        self._watch(out, layer, [Watch("attn.gated" if gated else "attn.context", "in", forms.value_heads)])
        if qkv is not None:
            first = _inputs(out)
            second = first + (_outputs(qkv) - first) // 2
            bounds = {"attn.q": (0, first), "attn.k": (first, second), "attn.v": (second, _outputs(qkv))}
            self._watch(qkv, layer, [Watch(stage, "out", forms.slice_of(*bound)) for stage, bound in bounds.items()])
        rope = parts.get("self_attn.rope")
        if rope is not None and type(rope).__name__ != "NoPE":
            self._hook(rope, None, functools.partial(self._on_rotation, layer, latent))

    def _watch_experts(self, layer: _Layer, parts: dict[str, Any]) -> None:
        mlp = "block_sparse_moe" if "block_sparse_moe" in parts else "mlp"
        switch = parts.get(f"{mlp}.switch_mlp") or parts.get(f"{mlp}.experts")
        router = parts.get(f"{mlp}.gate") or parts.get(f"{mlp}.router")
        if switch is None or router is None:
            return
        self._watch(switch, layer, [Watch("moe.ids", "in1", forms.flat)])
        if hasattr(router, "e_score_correction_bias"):  # DeepSeek-V3's yields ids and weights
            self._watch(router, layer, [Watch("moe.weights", "out1", forms.flat)])
            return
        self._watch(router, layer, [Watch("moe.logits", "out", forms.flat)])
        block = parts[mlp]
        if type(block).__name__ in _WEIGHTS_SEEN:
            self._hook(
                block, lambda _args, _kwargs: layer.seen.pop("weights", None), functools.partial(self._on_experts, layer, block)
            )

    def _expect(self, layer: _Layer, parts: dict[str, Any]) -> None:
        def expect(why: str, *names: str) -> None:
            self._expected |= {layer.prefix + name: why for name in names}

        if "self_attn" in parts:
            expect(_FUSED, "attn.scores", "attn.probs")
            rotates = "self_attn.rope" in parts and type(parts["self_attn.rope"]).__name__ != "NoPE"
            if "self_attn.kv_a_proj_with_mqa" in parts:
                expect(_ABSORBED, "attn.q_rope", "attn.k_rope", "attn.v")
                rotates = False
            expect(_NOWHERE, "attn.q", "attn.context", "attn.out", *(["attn.q_rope", "attn.k_rope"] if rotates else []))
        if "linear_attn" in parts:
            expect("mlx-lm holds the decay itself, exp(g)", "linear.g")
            qkvz = "linear_attn.in_proj_qkvz" in parts
            expect(_NOWHERE, *(f"linear.{name}" for name in ("conv", "q", "k", "v", "beta", "context", "norm", "state")))
            expect(
                "the projections are of all of one key head, then the next" if qkvz else _NOWHERE,
                *(f"linear.{name}" for name in ("qkv", "z", "b", "a")),
            )
        mlp = "block_sparse_moe" if "block_sparse_moe" in parts else "mlp"
        if f"{mlp}.switch_mlp" in parts or f"{mlp}.experts" in parts:
            expect("between two calls of the block, in no function of its own", "moe.weights", "moe.probs", "moe.logits")
            expect(_NOWHERE, "moe.ids")
            if f"{mlp}.shared_expert" in parts:
                expect("between two calls of the block, in no function of its own", "moe.shared")
        expect(_NOWHERE, "attn.residual", "residual")

    # Calls of modules.

    def _hook(self, module: Any, before: Before | None, after: After | None) -> None:
        entries = self._hooks.setdefault(id(module), ([], []))
        self._classes.add(type(module))
        if before:
            entries[0].append(before)
        if after:
            entries[1].append(after)

    def _wrap_class(self, cls: type) -> None:
        original = cls.__call__

        @functools.wraps(original)
        def call(module, *args, **kwargs):
            key = id(module)
            hooks = self._hooks.get(key)
            if hooks is None or key in self._active:  # another model's module, or a subclass that calls its base
                return original(module, *args, **kwargs)
            self._active.add(key)
            try:
                for before in hooks[0]:
                    before(args, kwargs)
                result = original(module, *args, **kwargs)
                for after in hooks[1]:
                    after(args, kwargs, result)
                return result
            finally:
                self._active.discard(key)

        self._replaced.append((cls, "__call__", original))
        cls.__call__ = call

    def _watch(self, module: Any, layer: _Layer | None, watches: list[Watch]) -> None:
        inputs = [w for w in watches if w.side.startswith("in")]
        outputs = [w for w in watches if w.side.startswith("out")]

        def before(args: tuple, kwargs: dict) -> None:
            given = [*args, *kwargs.values()]
            for watch in inputs:
                self._keep(layer, watch.stage, given[int(watch.side[2:] or 0)], watch.form)

        def after(_args: tuple, _kwargs: dict, output: Any) -> None:
            for watch in outputs:
                index = watch.side[3:]
                self._keep(layer, watch.stage, output[int(index or 0)] if isinstance(output, tuple) else output, watch.form)

        self._hook(module, before if inputs else None, after if outputs else None)

    def _enter(self, layer: _Layer, _args: tuple, _kwargs: dict) -> None:
        layer.seen.pop("rotations", None)
        self._running.append(layer)

    def _leave(self, _args: tuple, _kwargs: dict, _output: Any) -> None:
        self._running.pop()

    def _begin(self, args: tuple, kwargs: dict) -> None:
        self._running.clear()  # of a pass that ended in an error
        self._pending.clear()
        ids = np.array(args[0] if args else kwargs["inputs"])
        caches = kwargs.get("cache", args[1] if len(args) > 1 else None) or []
        offsets = [int(cache.offset) for cache in caches if isinstance(getattr(cache, "offset", None), int)]
        before = sum(step.count for step in self._recorder.trace.steps)
        self._recorder.begin(ids, offsets[0] if offsets else before if caches else 0)

    def _end(self, _args: tuple, _kwargs: dict, output: Any) -> None:
        if self._decoder is not self._model:
            self._keep(None, "logits", output, forms.rows)
        mx.eval([array for _, _, array, _ in self._pending])
        for layer, name, array, form in self._pending:
            bits, dtype = bits_of(array)
            tokens = self._recorder.tokens
            self._recorder.record(name, bits, dtype, form, layer.sizes(tokens) if layer else Sizes(tokens))
            if name == "embed" and self._recorder.trace.dtype is None:
                self._recorder.trace.dtype = str(array.dtype).removeprefix("mlx.core.")
        self._pending.clear()
        self._recorder.end()

    def _keep(self, layer: _Layer | None, stage: str, value: Any, form: Form) -> None:
        name = (layer.prefix if layer else "") + stage
        if self._recorder.running and isinstance(value, mx.array) and self._recorder.chosen(name):
            # A node of its own: `x *= y` gives an array object another value.
            self._pending.append((layer, name, mx.stop_gradient(value), form))

    def _on_rotation(self, layer: _Layer, latent: bool, _args: tuple, _kwargs: dict, result: Any) -> None:
        """Queries, then keys."""
        number = layer.seen.get("rotations", 0)
        layer.seen["rotations"] = number + 1
        if latent:
            if number == 1:
                self._keep(layer, "attn.kv_rope", result, forms.heads_first)
        elif number < 2:
            self._keep(layer, ("attn.q_rope", "attn.k_rope")[number], result, forms.heads_first)

    def _on_experts(self, layer: _Layer, block: Any, _args: tuple, _kwargs: dict, _result: Any) -> None:
        weights = layer.seen.pop("weights", None)
        elsewhere = type(block).__name__ in _RENORMALISED_ELSEWHERE and block.norm_topk_prob
        if weights is not None and not elsewhere:
            self._keep(layer, "moe.weights", weights, forms.flat)

    # Functions between the modules.

    def _replace(self, owner: Any, name: str, value: Any) -> None:
        self._replaced.append((owner, name, getattr(owner, name)))
        setattr(owner, name, value)

    def _wrap_functions(self, namespace: Any) -> None:
        if namespace is None:
            return

        def wrap(name: str, watcher: Callable[[_Layer, tuple, Any], None]) -> None:
            original = getattr(namespace, name, None)
            if original is None:
                return

            def wrapped(*args, **kwargs):
                result = original(*args, **kwargs)
                if self._running:
                    watcher(self._running[-1], args, result)
                return result

            self._replace(namespace, name, wrapped)

        wrap("scaled_dot_product_attention", self._on_attention)
        wrap("normalize_qk", self._on_unit_vectors)
        wrap("gated_delta_update", self._on_delta_rule)
        for name in ("gated_delta_ops", "gated_delta_kernel"):
            wrap(name, self._on_delta_step)
        if (
            any(name.endswith(("SparseMoeBlock", "MLPBlock")) for name in vars(namespace))
            and getattr(namespace, "mx", None) is mx
        ):
            self._replace(namespace, "mx", _Watched(mx, self._on_mx_call))

    def _on_attention(self, layer: _Layer, _args: tuple, result: mx.array) -> None:
        if _is_gated(layer.module.self_attn):
            self._keep(layer, "attn.context", result, forms.heads_first)

    def _on_unit_vectors(self, layer: _Layer, args: tuple, result: tuple) -> None:
        layer.seen["conv"] = list(args[:2])
        for name, value in (("conv_q", args[0]), ("conv_k", args[1]), ("q", result[0]), ("k", result[1])):
            self._keep(layer, f"linear.{name}", value, lambda x, s: x.reshape(s.tokens, -1, s.key_dim))

    def _on_delta_rule(self, layer: _Layer, args: tuple, result: tuple) -> None:
        self._keep(layer, "linear.v", args[2], forms.value_heads)
        if "conv" in layer.seen:
            parts = [*layer.seen.pop("conv"), args[2]]  # the convolution's output, which was split into these
            self._keep(layer, "linear.conv", mx.concatenate([p.reshape(*p.shape[:2], -1) for p in parts], axis=-1), forms.flat)
        self._keep(layer, "linear.context", result[0], forms.value_heads)
        self._keep(layer, "linear.state", result[1].swapaxes(-1, -2), forms.state)  # mlx-lm: [heads, value_dim, key_dim]

    def _on_delta_step(self, layer: _Layer, args: tuple, _result: tuple) -> None:
        self._keep(layer, "linear.beta", args[4], forms.flat)

    def _on_mx_call(self, name: str, result: Any) -> None:
        """Inside of a block of experts: the largest scores, renormalised in place or not, and the softmax."""
        if not self._running or not isinstance(result, mx.array):
            return
        layer = self._running[-1]
        block = getattr(layer.module, "mlp", None) or getattr(layer.module, "block_sparse_moe", None)
        chosen = getattr(block, "top_k", None) or getattr(block, "num_experts_per_tok", None)
        if chosen is None or name not in ("softmax", "take_along_axis"):
            return
        if result.shape[-1] == chosen:
            layer.seen["weights"] = result
        elif name == "softmax":
            self._keep(layer, "moe.probs", result, forms.flat)

    def _wrap_generation(self, namespace: Any) -> None:
        original = namespace.generate_step

        def announced(prompt, model, *args, **kwargs):
            if model is self._model:  # it feeds the prompt's last token in a pass of its own
                self._recorder.announce_prompt(np.array(prompt).reshape(-1).tolist())
            return original(prompt, model, *args, **kwargs)

        self._replace(namespace, "generate_step", announced)


class _Watched:
    """Stands in for mlx.core in one file: the same functions, watched."""

    def __init__(self, original: Any, seen: Callable[[str, Any], None]) -> None:
        self._original, self._seen = original, seen

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._original, name)
        if name not in ("softmax", "take_along_axis"):
            return value

        def watched(*args, **kwargs):
            result = value(*args, **kwargs)
            self._seen(name, result)
            return result

        return watched


def bits_of(array: mx.array) -> tuple[np.ndarray, str]:
    dtype = _numbers.dtype_name(str(array.dtype))
    held = mx.contiguous(array)
    return np.array(held.view(mx.uint16) if dtype == "BF16" else held), dtype


def _find_decoder(model: Any) -> Any:
    for _, module in model.named_modules():
        if all(hasattr(module, name) for name in ("embed_tokens", "layers", "norm")):
            return module
    raise TypeError(f"{type(model).__module__}.{type(model).__name__} has no decoder with embed_tokens, layers and norm")


def _model_args(model: Any) -> dict[str, Any]:
    return dataclasses.asdict(model.args) if dataclasses.is_dataclass(getattr(model, "args", None)) else {}


def _is_gated(attention: Any) -> bool:
    """Whether the query projection yields a gate as well; latent attention's queries and values differ in width."""
    plain = "q_proj" in attention and "kv_a_proj_with_mqa" not in attention
    return plain and _outputs(attention.q_proj) == 2 * _inputs(attention.o_proj)


def _outputs(linear: Any) -> int:
    return linear.weight.shape[0]


def _inputs(linear: Any) -> int:
    return linear.scales.shape[1] * linear.group_size if hasattr(linear, "scales") else linear.weight.shape[1]


def _sizes_of(layer: Any) -> Callable[[int], Sizes]:
    attention, delta = getattr(layer, "self_attn", None), getattr(layer, "linear_attn", None)
    if attention is None:
        return lambda tokens: Sizes(tokens, value_dim=delta.head_v_dim, key_dim=delta.head_k_dim)
    names = ("n_heads", "num_heads", "num_attention_heads")
    heads = next((getattr(attention, name) for name in names if hasattr(attention, name)), None)
    value_dim = (
        getattr(attention, "v_head_dim", None) or getattr(attention, "head_dim", None) or _inputs(attention.o_proj) // heads
    )
    head_dim = getattr(attention, "q_head_dim", None) or value_dim
    return lambda tokens: Sizes(tokens, head_dim, value_dim)
