"""What transformers calls between its modules: the functions of a model's own file (rotation, attention, delta rule), and
single torch calls inside of them. Each runs as it is and sees what it would see; what it takes and yields is recorded for the
layer in whose module it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from plumb.capture import stages as forms
from plumb.capture.recorder import Recorder
from plumb.capture.stages import Form, Sizes

_ROTATIONS = ("apply_rotary_pos_emb", "apply_rotary_pos_emb_interleave")
_CONVOLUTIONS = ("causal_conv1d_fn", "causal_conv1d_update")
_DELTA_RULES = ("torch_chunk_gated_delta_rule", "torch_recurrent_gated_delta_rule")


@dataclass
class _Scope:
    """A module or function that is running, innermost last, and what its parts yielded so far."""

    kind: str
    layer: Layer | None = None
    seen: dict[str, Any] = field(default_factory=dict)


@dataclass
class Layer:
    number: int
    module: torch.nn.Module
    sizes: Callable[[int], Sizes]

    @property
    def prefix(self) -> str:
        return f"layers.{self.number}."


class _Calls(TorchFunctionMode):
    """Sees every torch call; each runs unchanged."""

    def __init__(self, seen: Callable[[str, tuple, Any], None]) -> None:
        super().__init__()
        self._seen = seen

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self._seen(getattr(func, "__name__", ""), args, result)
        return result


class Functions:
    """Watches the functions while modules announce themselves by enter() and leave(). `record` takes a layer, a stage, a value
    and its form."""

    def __init__(self, recorder: Recorder, record: Callable[[Layer | None, str, Any, Form], None]) -> None:
        self._recorder, self._record = recorder, record
        self._scopes: list[_Scope] = []
        self._replaced: list[tuple[Any, str, Any]] = []
        self._calls = _Calls(self._on_call)
        self._started = False

    def start(self) -> None:
        self._calls.__enter__()
        self._started = True

    def stop(self) -> None:
        """Leaves the watched files as they were."""
        if self._started:
            self._calls.__exit__(None, None, None)
        for owner, name, original in reversed(self._replaced):
            setattr(owner, name, original)

    def enter(self, kind: str, layer: Layer | None) -> None:
        self._scopes.append(_Scope(kind, layer))

    def leave(self) -> None:
        self._scopes.pop()

    def wrap(self, namespace: Any) -> None:
        """Watches the functions of one of transformers' files."""

        def wrap(name: str, watcher: Callable[[tuple, dict, Any], None]) -> None:
            original = getattr(namespace, name, None)
            if original is None:
                return

            def wrapped(*args, **kwargs):
                result = original(*args, **kwargs)
                watcher(args, kwargs, result)
                return result

            self._replace(namespace, name, wrapped)

        for name in _ROTATIONS:
            wrap(name, self._on_rotation)
        for name in _CONVOLUTIONS:
            wrap(name, self._on_convolution)
        for name in _DELTA_RULES:
            wrap(name, self._on_delta_rule)
        wrap("l2norm", self._on_unit_vectors)
        if hasattr(namespace, "ALL_ATTENTION_FUNCTIONS"):
            self._replace(
                namespace, "ALL_ATTENTION_FUNCTIONS", _Attention(namespace.ALL_ATTENTION_FUNCTIONS, self._watched_attention)
            )
        for owner in vars(namespace).values():
            if isinstance(owner, type) and "fix_query_key_value_ordering" in vars(owner):
                self._wrap_ordering(owner)

    def _replace(self, owner: Any, name: str, value: Any) -> None:
        self._replaced.append((owner, name, getattr(owner, name)))
        setattr(owner, name, value)

    def _innermost(self, *kinds: str) -> _Scope | None:
        """The scope of one of these kinds that is running, if its layer is captured."""
        for scope in reversed(self._scopes):
            if scope.kind in kinds:
                return scope if scope.layer is None or self._recorder.chosen.layer(scope.layer.number) else None
        return None

    def _on_rotation(self, args: tuple, _kwargs: dict, result: Any) -> None:
        scope = self._innermost("attention", "compressor", "indexer")
        if scope is None or scope.layer is None or not self._recorder.running:
            return
        latent = (
            "kv_a_proj_with_mqa" in dict(scope.layer.module.self_attn.named_children()) if scope.kind == "attention" else False
        )
        if latent:
            # DeepSeek-V3 leaves neighbouring pairs (0, 1), (2, 3), … as two halves. The trace has them where the checkpoint has
            # them.
            pairs = scope.layer.module.self_attn.config.rope_interleave
            self._record(scope.layer, "attn.kv_rope", result[1], _paired if pairs else forms.heads_first)
            scope.seen["paired"] = result[0].shape[-1] if pairs else 0
        elif isinstance(result, tuple):
            self._record(scope.layer, "attn.q_rope", result[0], forms.heads_first)
            self._record(scope.layer, "attn.k_rope", result[1], forms.heads_first)
        else:
            self._on_single_rotation(scope, result)

    def _on_single_rotation(self, scope: _Scope, result: torch.Tensor) -> None:
        """DeepSeek-V4 rotates one value at a time, in this order."""
        order = {
            "attention": [
                ("attn.q_rope", forms.heads_first),
                ("attn.kv_rope", forms.flat),
                ("attn.context_unrope", forms.heads_first),
            ],
            "compressor": [("attn.compressed_rope", forms.blocks)],
            "indexer": [("attn.index_entries_rope", forms.blocks), ("attn.index_q_rope", forms.heads_first)],
        }[scope.kind]
        if scope.kind == "indexer" and not scope.seen and result.shape[1] != 1:
            scope.seen["rotations"] = 1  # no block was completed: the queries come first
        number = scope.seen.get("rotations", 0)
        scope.seen["rotations"] = number + 1
        stage, form = order[number]
        self._record(scope.layer, stage, result, form)

    def _watched_attention(self, attend: Callable) -> Callable:
        def watched(module, query, key, value, mask, *args, **kwargs):
            outer = self._innermost("attention")
            self._scopes.append(_Scope("softmax", outer.layer if outer else None))
            try:
                result = attend(module, query, key, value, mask, *args, **kwargs)
            finally:
                inner = self._scopes.pop()
            if outer is not None and self._recorder.running:
                self._on_attention(outer, inner, (query, key, value), result)
            return result

        return watched

    def _on_attention(self, outer: _Scope, inner: _Scope, operands: tuple, result: tuple) -> None:
        layer, (query, key, value) = outer.layer, operands
        if "paired" in outer.seen:
            width, tokens = outer.seen["paired"], self._recorder.tokens
            form = (lambda x, s: _paired_end(x, s, width)) if width else forms.heads_first
            self._record(layer, "attn.q_rope", query, form)
            self._record(layer, "attn.k_rope", key[:, :, -tokens:], form)
            self._record(layer, "attn.v", value[:, :, -tokens:], forms.heads_first)
        if "scores" in inner.seen:
            self._record(layer, "attn.scores", inner.seen["scores"], forms.heads_first)
        if result[1] is not None:
            self._record(layer, "attn.probs", result[1], forms.heads_first)
        self._record(layer, "attn.context", result[0], forms.value_heads)

    def _wrap_ordering(self, owner: type) -> None:
        """Qwen3-Next's projections hold all of one key head, then the next; this puts them in order."""
        original = owner.fix_query_key_value_ordering

        def wrapped(module, *args, **kwargs):
            result = original(module, *args, **kwargs)
            scope = self._innermost("delta")
            if scope is not None:
                query, key, value, z, b, a = result
                flat = [x.reshape(*x.shape[:2], -1) for x in (query, key, value)]
                for name, part in zip(("in_q", "in_k", "in_v"), flat):
                    self._record(scope.layer, f"linear.{name}", part, forms.flat)
                self._record(scope.layer, "linear.qkv", torch.cat(flat, dim=-1), forms.flat)
                for name, part in (("z", z), ("b", b), ("a", a)):
                    self._record(scope.layer, f"linear.{name}", part, forms.flat)
            return result

        self._replace(owner, "fix_query_key_value_ordering", wrapped)

    def _on_convolution(self, _args: tuple, _kwargs: dict, result: torch.Tensor) -> None:
        scope = self._innermost("delta")
        if scope is not None:  # [1, channels, tokens], with those of the cache before it
            self._record(scope.layer, "linear.conv", result[:, :, -self._recorder.tokens :].transpose(1, 2), forms.flat)

    def _on_unit_vectors(self, _args: tuple, _kwargs: dict, result: torch.Tensor) -> None:
        """Queries, then keys, repeated for their value heads: [1, value_heads, tokens, dim]."""
        scope = self._innermost("delta")
        if scope is None:
            return
        if "q_unit" not in scope.seen:
            scope.seen["q_unit"] = result
        else:
            self._record(scope.layer, "linear.k", _key_heads(result, scope.layer), forms.heads_first)

    def _on_delta_rule(self, args: tuple, kwargs: dict, result: tuple) -> None:
        scope = self._innermost("delta")
        if scope is None:
            return
        for name, value in zip(("conv_q", "conv_k"), args):
            self._record(scope.layer, f"linear.{name}", value, lambda x, s: x.reshape(s.tokens, -1, s.key_dim))
        self._record(scope.layer, "linear.v", args[2], forms.value_heads)
        for name in ("g", "beta"):
            self._record(scope.layer, f"linear.{name}", kwargs[name], forms.flat)
        self._record(scope.layer, "linear.context", result[0], forms.value_heads)
        self._record(scope.layer, "linear.state", result[1], forms.state)

    # Single torch calls inside of the functions.

    def _on_call(self, name: str, args: tuple, result: Any) -> None:
        if not self._scopes or not self._recorder.running:
            return
        scope = self._scopes[-1]
        watcher = _CALLS.get(scope.kind)
        if watcher is not None and (scope.layer is None or self._recorder.chosen.layer(scope.layer.number)):
            watcher(self, scope, name, args, result)

    def _in_softmax(self, scope: _Scope, name: str, args: tuple, _result: Any) -> None:
        # With sinks the scores are joined by one more column before the softmax; without, they are its argument.
        if name == "cat" and "scores" not in scope.seen:
            scope.seen["scores"] = args[0][0]
        elif name == "softmax":
            scope.seen.setdefault("scores", args[0])

    def _in_router(self, scope: _Scope, name: str, args: tuple, result: Any) -> None:
        if name in ("softmax", "sigmoid") and "probs" not in scope.seen and result.shape[-1] == _experts(scope.layer):
            scope.seen["probs"] = True
            self._record(scope.layer, "moe.probs", result, forms.flat)

    def _in_delta(self, scope: _Scope, name: str, args: tuple, result: Any) -> None:
        if (
            name in _PRODUCTS
            and "q_unit" in scope.seen
            and args[0] is scope.seen["q_unit"]
            and not isinstance(args[1], torch.Tensor)
        ):
            self._record(scope.layer, "linear.q", _key_heads(result, scope.layer), forms.heads_first)

    def _in_mlp(self, scope: _Scope, name: str, args: tuple, result: Any) -> None:
        # Qwen3-Next: the gate of the shared expert, then the product that is added.
        if name == "sigmoid":
            scope.seen["gate"] = result
        elif name in _PRODUCTS and "gate" in scope.seen and args[0] is scope.seen["gate"]:
            self._record(scope.layer, "moe.shared", result, forms.flat)

    def _in_hyper_connection(self, scope: _Scope, name: str, args: tuple, result: Any) -> None:
        # pre = sigmoid(…) + eps is the first that is computed; it is returned by nothing.
        if name == "sigmoid":
            scope.seen.setdefault("sigmoid", result)
        elif name in ("add", "__add__") and "pre" not in scope.seen and args and args[0] is scope.seen.get("sigmoid"):
            scope.seen["pre"] = True
            self._record(scope.layer, f"{scope.kind}.pre", result, forms.flat)


_PRODUCTS = ("mul", "__mul__", "div", "__truediv__", "true_divide")
_CALLS = {
    "softmax": Functions._in_softmax,
    "router": Functions._in_router,
    "delta": Functions._in_delta,
    "mlp": Functions._in_mlp,
    "hc_attn": Functions._in_hyper_connection,
    "hc_mlp": Functions._in_hyper_connection,
    "hc_head": Functions._in_hyper_connection,
}


class _Attention:
    """Stands in for a file's ALL_ATTENTION_FUNCTIONS: the same functions, watched."""

    def __init__(self, original: Any, watched: Callable[[Callable], Callable]) -> None:
        self._original, self._watched = original, watched

    def get_interface(self, *args: Any, **kwargs: Any) -> Callable:
        return self._watched(self._original.get_interface(*args, **kwargs))

    def __getitem__(self, key: str) -> Callable:
        return self._watched(self._original[key])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)


def _paired(x: np.ndarray, s: Sizes) -> np.ndarray:
    """Two halves [1, heads, tokens, (x0, x2, …, x1, x3, …)] as pairs [tokens, heads, (x0, x1, x2, …)]."""
    rows = forms.heads_first(x, s)
    return np.stack(np.split(rows, 2, axis=-1), axis=-1).reshape(rows.shape)


def _paired_end(x: np.ndarray, s: Sizes, width: int) -> np.ndarray:
    rows = forms.heads_first(x, s)
    return np.concatenate([rows[..., :-width], _paired(x[..., -width:], s)], axis=-1)


def _key_heads(x: torch.Tensor, layer: Layer) -> torch.Tensor:
    """Each key head once, of [1, value_heads, tokens, dim]: the file repeats each, and an edited one may tile them."""
    delta = layer.module.linear_attn
    repeats = delta.num_v_heads // delta.num_k_heads
    tiled = repeats > 1 and not torch.equal(x[:, 0], x[:, 1])
    return x[:, : delta.num_k_heads] if tiled else x[:, ::repeats]


def _experts(layer: Layer) -> int:
    router = getattr(layer.module.mlp, "gate", None) or layer.module.mlp.router
    return router.weight.shape[0]
