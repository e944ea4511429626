"""DeepLift as an edit: a graph that sees every image beside its baseline, and carries differences back.

The edited graph takes the images and behind them, in the same batch, their baselines. It computes
everything twice: the nodes that it had hold what the images give, and can be differentiated; for
each there is one more that holds what the baselines give, and is constant. So no axis of any tensor
has to be known as the batch. An operation that is neither linear nor known by a rule of
:mod:`~inward.network.secants` stays as it is, and is found by :func:`unruled`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor, fx
from torch.nn import functional as F
from torch.utils import _pytree as pytree

from inward.network import secants
from inward.network.graph import Graph
from inward.network.layout import op_name
from inward.network.memory import free_views
from inward.network.normalization import local_response_norm
from inward.network.opaque import is_stop, stop_gradient
from inward.network.operation import argument
from inward.network.secants import Pair

Function: TypeAlias = Callable[..., Any]
Rule: TypeAlias = Callable[["Call"], Any]
"""Computes an operation's value from the call, with multipliers for a gradient."""

_REFERENCE, _REASON, _RULED = "inward_reference", "inward_unruled", "rescaled_"


class Call:
    """A call of an operation: its arguments by name, a :class:`Pair` wherever images and baselines differ."""

    def __init__(self, function: Function, given: tuple[Any, ...], reference: tuple[Any, ...]) -> None:
        self.function, self.args = function, given[0]
        self._flat, self._spec = pytree.tree_flatten(given)
        flat0 = pytree.tree_leaves(reference)
        self._places = [i for i, (a, b) in enumerate(zip(self._flat, flat0, strict=True)) if _differ(a, b)]
        self.pairs = [Pair(self._flat[i], flat0[i]) for i in self._places]
        self._given, self._reference = given, reference

    def run(self, *tensors: Tensor) -> Any:
        """The operation with other tensors in the places of the pairs."""
        flat = list(self._flat)
        for place, tensor in zip(self._places, tensors, strict=True):
            flat[place] = tensor
        args, options = pytree.tree_unflatten(flat, self._spec)
        return self.function(*args, **options)

    def get(self, name: str, default: Any = None) -> Any:
        """An argument by its name in the operation's schema; a tensor that depends on the image as a pair."""
        value, reference = (_argument(self.function, given, name, default) for given in (self._given, self._reference))
        return Pair(value, reference) if _differ(value, reference) else value

    def pair(self, name: str) -> Pair:
        """An argument that is a tensor, constant or not, as a pair."""
        found = self.get(name)
        return found if isinstance(found, Pair) else Pair(found, found)


def _differ(value: Any, reference: Any) -> bool:
    """Whether an argument depends on the image: a tensor that does not is the very same object in both."""
    return isinstance(value, Tensor) and value is not reference


def _argument(function: Function, given: tuple[Any, ...], name: str, default: Any) -> Any:
    args, options = given
    if name in options:
        return options[name]
    schema: Any = getattr(function, "_schema", None)
    place = [a.name for a in schema.arguments].index(name) if name in {a.name for a in schema.arguments} else len(args)
    return args[place] if place < len(args) else default


def rescale(module: fx.GraphModule) -> None:
    """The edit: a batch of images and their baselines in, what the images give out.

    A value that the module takes for a constant (``detach``, a ``no_grad`` block) is carried on as
    it is here: differences are explained, and it differs. :func:`reference_of` names the other half.
    """
    # A rule may leave its numbers in another order in memory than the operation does.
    free_views(module)
    image = next(node for node in module.graph.nodes if node.op == "placeholder")
    references = _halves(module.graph, image)
    for node in list(module.graph.nodes):
        if node.op != "call_function" or node in references or not _depends(node, references):
            continue
        rule = _rule(node, references)
        with module.graph.inserting_after(node):
            reference = module.graph.node_copy(node, lambda n: references.get(n, n))
        if isinstance(rule, str):
            node.meta[_REASON] = rule
        elif rule is not None:
            given = ((node.args, node.kwargs), (reference.args, reference.kwargs))
            node.target, node.args, node.kwargs = _ruled(node, rule), given, {}
        references[node] = reference
        node.meta[_REFERENCE] = reference.name


def _halves(graph: fx.Graph, image: fx.Node) -> dict[fx.Node, fx.Node]:
    with graph.inserting_after(image):
        second = graph.call_function(baselines_half, (image,))
        first = graph.call_function(images_half, (image,))
    first.meta, second.meta = dict(image.meta), dict(image.meta)
    image.replace_all_uses_with(first, delete_user_cb=lambda user: user not in (first, second))
    return {first: second, second: second}


def images_half(both: Tensor) -> Tensor:
    """The images of a batch that has the baselines behind them."""
    return both[: len(both) // 2]


def baselines_half(both: Tensor) -> Tensor:
    """The baselines of a batch that has the images before them; constant."""
    return both[len(both) // 2 :].detach()


def _ruled(node: fx.Node, rule: Rule) -> Function:
    function, several = node.target, isinstance(node.meta.get("val"), (tuple, list))
    further = any(user.args[1] != 0 for user in node.users) if several else False

    def ruled(given: tuple[Any, ...], reference: tuple[Any, ...]) -> Any:
        made = rule(Call(function, given, reference))  # type: ignore[arg-type]
        # Beside what has a rule, an operation may give the places of its maxima.
        rest = function(*given[0], **given[1])[1:] if further else ()  # type: ignore[operator]
        return (made, *rest) if several else made

    ruled.__name__ = f"{_RULED}{op_name(node)}"
    return ruled


def reference_of(graph: Graph, name: str) -> str:
    """The node that holds for the baselines what the node ``name`` holds for the images."""
    return next(node.meta.get(_REFERENCE, name) for node in graph.module.graph.nodes if node.name == name)


def passes_by(graph: Graph, start: str, ends: Collection[str]) -> bool:
    """Whether some of ``ends`` depend on the image by another way than through the node ``start``."""
    reached: set[fx.Node] = set()
    for node in graph.module.graph.nodes:
        depends = _REFERENCE in node.meta and any(i in reached for i in node.all_input_nodes)
        if node.target is images_half or (depends and node.name != start):
            reached.add(node)
    return any(node.name in ends for node in reached)


def unruled(node: fx.Node) -> str | None:
    """Why a node of the edited graph does not carry differences, or None."""
    return node.meta.get(_REASON)


def _depends(node: fx.Node, references: Mapping[fx.Node, fx.Node]) -> bool:
    """Whether the values (not only the shape) depend on the image."""
    held = node.meta.get("val")
    if held is not None and not isinstance(held, (Tensor, tuple, list)):
        return False
    inputs = node.all_input_nodes
    if op_name(node) in _FILLED:
        inputs = [n for n in (*node.args[1:], *node.kwargs.values()) if isinstance(n, fx.Node)]
    return any(i in references for i in inputs)


def _rule(node: fx.Node, references: Mapping[fx.Node, fx.Node]) -> Rule | str | None:
    """The rule of an operation; None, where its gradient is exact; a reason, where there is none."""
    live: list[fx.Node] = []
    fx.map_arg((node.args, node.kwargs), lambda n: live.append(n) if n in references else None)
    if getattr(node.target, "__name__", "") == "getitem":
        ruled = getattr(live[0].target, "__name__", "").startswith(_RULED)
        return "only the first of its results has a rule" if ruled and node.args[1] != 0 else None
    if any(_is_discrete(n) for n in live):
        return "it decides by a condition or an index that depends on the image"
    if is_stop(node) or node.target in (stop_gradient, torch.ops.aten.detach.default):
        return lambda call: call.pairs[0].value
    if _is_random(node):
        return "it is random, or counts over the batch"
    return _of_name(node, op_name(node), live)


def _of_name(node: fx.Node, name: str, live: list[fx.Node]) -> Rule | str | None:
    first_only = live == [node.args[0]]
    if name in _LINEAR or (name in _PRODUCTS and len(live) == 1) or (name in _LINEAR_IN_FIRST and first_only):
        return None
    if name in _PRODUCTS:
        return _product if name != "einsum" or len(live) == 2 else "it is a product of more than two"
    if name in ("div", "true_divide") and argument(node, "rounding_mode") is None:
        return None if first_only else _divided
    if name in _RULES and not (name in _MAXIMA and len(live) == 1):
        rule, fits = _RULES[name]
        return rule if fits(node, live) else "its parameters are not those that its rule is for"
    pointwise = torch.Tag.pointwise in getattr(node.target, "tags", ()) or name in _POINTWISE
    return _elementwise if pointwise and len(live) == 1 else f"no rule is known for {name}"


def _is_discrete(node: fx.Node) -> bool:
    held = node.meta.get("val")
    return isinstance(held, Tensor) and not held.is_floating_point()


def _is_random(node: fx.Node) -> bool:
    seeded = torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())
    share = argument(node, "train", argument(node, "training", argument(node, "dropout_p", 0.0)))
    return (seeded and bool(share)) or (op_name(node) == "batch_norm" and bool(argument(node, "training", False)))


def _elementwise(call: Call) -> Tensor:
    (pair,) = call.pairs
    return secants.elementwise(call.run, pair.value, pair.reference)


def _product(call: Call) -> Tensor:
    return secants.product(call.run, *call.pairs)


def _divided(call: Call) -> Tensor:
    return secants.divided(call.pair("self"), call.pair("other"))


def _softmax(call: Call) -> Tensor:
    return secants.softmax(_cast(call), call.get("dim")).value


def _log_softmax(call: Call) -> Tensor:
    return secants.log_softmax(_cast(call), call.get("dim")).value


def _cast(call: Call) -> Pair:
    dtype = call.get("dtype")
    return call.pair("self").linear(lambda t: t if dtype is None else t.to(dtype))


def _attention(call: Call) -> Tensor:
    query, key, value = (call.pair(name) for name in ("query", "key", "value"))
    bias, scale = call.get("attn_mask"), call.get("scale")
    if call.get("is_causal", False):
        rows, columns = query.value.shape[-2], key.value.shape[-2]
        bias = torch.ones(rows, columns, dtype=torch.bool, device=query.value.device).tril()
    if bias is not None and bias.dtype == torch.bool:
        bias = torch.zeros_like(bias, dtype=query.value.dtype).masked_fill(~bias, -torch.inf)
    return secants.attention(query, key, value, query.value.shape[-1] ** -0.5 if scale is None else scale, bias)


def _layer_norm(call: Call) -> Tensor:
    dims = range(-len(call.get("normalized_shape")), 0)
    return _scaled(secants.standardized(call.pair("input"), dims, call.get("eps", 1e-5)), call, 0)


def _rms_norm(call: Call) -> Tensor:
    pair, dims = call.pair("input"), range(-len(call.get("normalized_shape")), 0)
    eps = call.get("eps")
    eps = torch.finfo(pair.value.dtype).eps if eps is None else eps
    return _scaled(secants.standardized(pair, dims, eps, centered=False), call, 0)


def _group_norm(call: Call) -> Tensor:
    pair, groups = call.pair("input"), call.get("num_groups", call.get("group"))
    grouped = pair.linear(lambda t: t.reshape(len(t), groups, -1))
    found = secants.standardized(grouped, [-1], call.get("eps", 1e-5)).view(pair.value.shape)
    return _scaled(found, call, pair.value.ndim - 2)


def _instance_norm(call: Call) -> Tensor:
    pair = call.pair("input")
    found = secants.standardized(pair, range(2, pair.value.ndim), call.get("eps"))
    return _scaled(found, call, pair.value.ndim - 2)


def _scaled(x: Tensor, call: Call, behind: int) -> Tensor:
    """``x`` times the weight plus the bias, where there are any, which have so many axes behind them."""
    weight, bias = (None if t is None else t[(..., *[None] * behind)] for t in map(call.get, ("weight", "bias")))
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


def _response_norm(call: Call) -> Tensor:
    return secants.local_response_norm(call.pairs[0], *call.args[1:])


def _vector_norm(call: Call) -> Tensor:
    pair, keep = call.pair("self"), call.get("keepdim", False)
    dims = call.get("dim") or list(range(pair.value.ndim))
    return pair.rescaled(torch.square).linear(lambda t: t.sum(dims, keepdim=keep)).rescaled(torch.sqrt).value


def _glu(call: Call) -> Tensor:
    dim = call.get("dim", -1)
    value, gate = (call.pair("self").linear(lambda t, i=i: t.chunk(2, dim)[i]) for i in range(2))
    return secants.product(torch.mul, value, gate.rescaled(torch.sigmoid))


def _max_pool(axes: int) -> Rule:
    pool: Any = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[axes - 1]

    def rule(call: Call) -> Tensor:
        window = (call.get("kernel_size"), call.get("stride") or None, call.get("padding", 0), call.get("dilation", 1))
        ceil = call.get("ceil_mode", False)
        return secants.largest(call.pair("self"), lambda t: pool(t, *window, ceil, return_indices=True)[1], axes)

    return rule


def _adaptive_max_pool(axes: int) -> Rule:
    pool: Any = (F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d)[axes - 1]

    def rule(call: Call) -> Tensor:
        size = call.get("output_size")
        return secants.largest(call.pair("self"), lambda t: pool(t, size, return_indices=True)[1], axes)

    return rule


def _extreme(sign: int) -> Rule:
    """The largest of an axis, of several, of everything, or of two tensors; of minus them, for the smallest."""

    def rule(call: Call) -> Tensor:
        pair = call.pair("self").linear(lambda t: sign * t)
        if call.get("other") is not None:
            other = call.pair("other").linear(lambda t: sign * t)
            both = [torch.stack(torch.broadcast_tensors(*two), -1) for two in _halved(pair, other)]
            return sign * secants.largest_along(Pair(both[0], both[1]), [-1])
        dims = call.get("dim")
        dims = [dims] if isinstance(dims, int) else dims or list(range(pair.value.ndim))
        return sign * secants.largest_along(pair, dims, call.get("keepdim", False))

    return rule


def _halved(*pairs: Pair) -> list[list[Tensor]]:
    return [[p.value for p in pairs], [p.reference for p in pairs]]


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _of_one(node: fx.Node, live: list[fx.Node]) -> bool:
    return live == [node.args[0]]


def _unbiased_by_image(node: fx.Node, live: list[fx.Node]) -> bool:
    """Attention whose mask is constant, each query with a key of its own."""
    return argument(node, "attn_mask") not in live and not argument(node, "enable_gqa", False)


_RULES: dict[str, tuple[Rule, Callable[[fx.Node, list[fx.Node]], bool]]] = {
    "softmax": (_softmax, _of_one),
    "log_softmax": (_log_softmax, _of_one),
    "scaled_dot_product_attention": (_attention, _unbiased_by_image),
    "scaled_dot_product_flash_attention_for_cpu": (_attention, _unbiased_by_image),
    "layer_norm": (_layer_norm, _of_one),
    "rms_norm": (_rms_norm, _of_one),
    "group_norm": (_group_norm, _of_one),
    "instance_norm": (
        _instance_norm,
        lambda node, live: _of_one(node, live) and bool(argument(node, "use_input_stats")),
    ),
    local_response_norm.__name__: (_response_norm, _of_one),
    "linalg_vector_norm": (_vector_norm, lambda node, _: argument(node, "ord", 2) == 2),
    "glu": (_glu, _of_one),
    **{f"max_pool{k}d{more}": (_max_pool(k), _of_one) for k in (1, 2, 3) for more in ("", "_with_indices")},
    **{f"adaptive_max_pool{k}d": (_adaptive_max_pool(k), _of_one) for k in (1, 2, 3)},
    **{name: (_extreme(1), lambda *_: True) for name in ("maximum", "max", "amax")},
    **{name: (_extreme(-1), lambda *_: True) for name in ("minimum", "min", "amin")},
}
_MAXIMA = {"maximum", "minimum"}
# Of the second degree in all that can depend on the image, and linear in any of it alone.
_PRODUCTS = _names(
    "mul matmul mm bmm mv dot outer einsum linear addmm addmv baddbmm addcmul lerp bilinear convolution conv1d conv2d "
    "conv3d conv_transpose1d conv_transpose2d conv_transpose3d"
)
# Linear in all that can depend on the image together, but for a constant.
_LINEAR = _names(
    "add sub rsub neg positive sum mean cumsum view reshape flatten unflatten view_as reshape_as expand expand_as "
    "broadcast_to permute movedim transpose t mT mH numpy_T adjoint squeeze unsqueeze select slice narrow split "
    "split_with_sizes chunk unbind cat concat concatenate stack clone contiguous to alias lift_fresh lift_fresh_copy "
    "flip roll rot90 diagonal repeat tile repeat_interleave index index_select gather take_along_dim pad "
    "constant_pad_nd reflection_pad1d reflection_pad2d replication_pad1d replication_pad2d channel_shuffle "
    "pixel_shuffle pixel_unshuffle im2col col2im unfold avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d "
    "adaptive_avg_pool2d adaptive_avg_pool3d interpolate slice_scatter select_scatter index_put index_add scatter "
    "scatter_add tril triu dropout feature_dropout alpha_dropout feature_alpha_dropout masked_fill where batch_norm "
    "channels_last"
)
_LINEAR_IN_FIRST = {"grid_sampler", "grid_sampler_2d"}
# Functions of each number by itself that PyTorch does not mark as such.
_POINTWISE = {"hardswish", "prelu", "prelu_kernel", "log_sigmoid"}
# Of the tensor they are given, these take the shape.
_FILLED = _names(
    "zeros_like ones_like full_like empty_like rand_like randn_like new_zeros new_ones new_full new_empty zero fill "
    "sym_size"
)
