"""Build a model with other channel counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import fx, nn

from evonas.errors import InvalidArgument, unknown_name
from evonas.graph.attributes import follow_attributes
from evonas.graph.chains import Chains
from evonas.graph.choose import Importance, copies_for, group_l2, unit_scores
from evonas.graph.fresh import reinitialise
from evonas.graph.rewrite import Rewrite
from evonas.graph.slicing import Layout, set_tensors
from evonas.graph.trace import as_module

__all__ = ["resize"]

_INITS = ("inherit", "fresh")


def resize(
    model: nn.Module,
    channels: Mapping[str, int],
    *,
    chains: Chains,
    init: str = "inherit",
    importance: Importance = group_l2,
    seed: int = 0,
) -> nn.Module:
    """A copy of `model` with `channels` channels in the named chains; the others keep theirs.

    Smaller chains keep the channels with the greatest importance. Larger ones copy channels and divide
    what reads them among the copies (Net2Net, arXiv:1511.05641): the output is the original's within
    float error. The class and the module tree of the model are kept wherever its forward works at the new
    sizes; otherwise the result is a `torch.fx.GraphModule` with the same names of layers. Which sizes and
    shapes the result has depends on `channels` alone, so that its state_dict loads into any other
    `resize` to the same counts. `model` is not modified.

    Args:
        model: the model that `chains` was found on, or one of the same structure with other weights.
        channels: chain name -> channel count; a chain that is left out keeps its count.
        chains: the result of `find_chains`.
        init: `inherit` takes the weights over, `fresh` draws new ones.
        importance: of each slice of a parameter along a dim, `(tensor, dim) -> shape (size,)`, summed over
            the parameters through which a channel is coupled.
        seed: of the shares of copied channels, and of `fresh` weights.

    Raises:
        UnknownName: a name is no chain, or `init` is unknown.
        InvalidArgument: a count is not legal for its chain, or the model is not the one of `chains`.
    """
    if init not in _INITS:
        raise unknown_name("init", init, _INITS)
    _check_same(model, chains)
    generator = torch.Generator().manual_seed(seed)
    copies = copies_for(chains, channels, unit_scores(chains.structure, model, importance))
    layout = Layout(chains.structure, copies, generator)
    sized = set_tensors(model, layout)
    rewrite = Rewrite(layout, sized)
    if rewrite.changes and not follow_attributes(sized, layout, rewrite):
        sized = _graph_module(sized, rewrite, model)
    if init == "fresh":
        reinitialise(sized, seed)
    return sized.train(model.training)


def _check_same(model: nn.Module, chains: Chains) -> None:
    expected = chains.structure.shapes
    found = {n: tuple(t.shape) for n, t in [*model.named_parameters(), *model.named_buffers()]}
    for name, shape in expected.items():
        if found.get(name) != shape:
            raise InvalidArgument(
                f"`model` is not the one that `chains` was found on: `{name}` has shape {found.get(name)}, "
                f"expected {shape}"
            )


def _graph_module(sized: nn.Module, rewrite: Rewrite, model: nn.Module) -> fx.GraphModule:
    _keep_dropout(sized, rewrite.graph)
    constants = rewrite.structure.traced.constants | rewrite.buffers
    return as_module(sized, rewrite.graph, constants, type(model).__name__)


def _keep_dropout(root: nn.Module, graph: fx.Graph) -> None:
    """Functional dropout was traced in evaluation mode: a module follows train() and eval() again."""
    for number, node in enumerate(list(graph.nodes)):
        if node.op != "call_function" or node.target is not nn.functional.dropout:
            continue
        given: Any = node.args[1] if len(node.args) > 1 else node.kwargs.get("p", 0.5)
        training = node.args[2] if len(node.args) > 2 else node.kwargs.get("training", True)
        if training is False:
            name = f"_dropout_{number}"
            root.add_module(name, nn.Dropout(float(given)))
            with graph.inserting_before(node):
                called = graph.call_module(name, (node.args[0] if node.args else node.kwargs["input"],))
            node.replace_all_uses_with(called)
            graph.erase_node(node)
