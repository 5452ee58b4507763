"""Where formats go: rules that say which tensors of which layers get a gene, and which formats it holds."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evonas.errors import InvalidArgument, unknown_name
from evonas.formats import Format, parse
from evonas.network import OPTIONAL, SLOTS, TYPES, Layer, Network
from evonas.plan import PlanSpace
from evonas.space import Gene

__all__ = ["SHARES", "Rule", "tensors_of", "with_rules"]

SHARES = ("tensor", "activation", "layer", "type", "all")
_ALL = ("*",)


@dataclass(frozen=True)
class Rule:
    """Genes for some tensors of some layers.

    Args:
        formats: specs that the genes choose among, the cheapest first; a single one is a fixed format and no gene.
        layers: names or patterns (`blocks.*.conv1`) of layers; all of `types` when left out. `block1_conv1` also means
            `block1.conv1`, and `seq_blocks_2` the third layer of the network, norms and ReLUs counted.
        types: kinds of layers: `linear` and `conv`, or `matmul`, `add`, `embedding`, `functional`.
        tensors: `data_in` (both operands of a product of activations; `data_in2` is the second alone), `weight`, `bias`
            and `data_out`, each where a layer has it.
        share: what has one gene together: each `tensor`, each `activation` (whatever layers read or write it), each
            `layer`, each `type`, or `all` of the rule.
        name: of the gene, when `share` is `all`.
        path: where it stands in a run file, for messages.
    """

    formats: tuple[str, ...]
    layers: tuple[str, ...] = _ALL
    types: tuple[str, ...] = TYPES
    tensors: tuple[str, ...] = ("data_in", "weight")
    share: str = "tensor"
    name: str = ""
    path: str = field(default="", compare=False)

    @classmethod
    def read(cls, content: Any, path: str) -> Rule:
        """A rule from a table of a run file, `path` being where it stands there.

        Raises:
            UnknownName: a key, type, tensor or way of sharing that does not exist.
            InvalidArgument: a value of the wrong type, or a format that does not parse.
        """
        if not isinstance(content, Mapping):
            raise InvalidArgument(f"`{path}` must be a table, got {content!r}")
        known = ("formats", "layers", "types", "tensors", "share", "name")
        for key in content:
            if key not in known:
                raise unknown_name("key of a run file", f"{path}.{key}", known)
        lists = {key: _texts(content[key], f"{path}.{key}") for key in known[:4] if key in content}
        if "formats" not in lists:
            raise InvalidArgument(
                f"`{path}.formats` is missing; expected a list of formats such as ['fixed4', 'fixed8']"
            )
        for spec in lists["formats"]:
            _located(spec, f"{path}.formats")
        for key, valid in (("types", (*TYPES, *OPTIONAL)), ("tensors", SLOTS)):
            for word in lists.get(key, ()):
                if word not in valid:
                    raise unknown_name(f"word in `{path}.{key}`", word, valid)
        share, name = content.get("share", "tensor"), content.get("name", "")
        if share not in SHARES:
            raise unknown_name(f"`{path}.share`", str(share), SHARES)
        if not isinstance(name, str):
            raise InvalidArgument(f"`{path}.name` must be text, got {name!r}")
        return cls(**lists, share=share, name=name, path=f"{path}.layers")

    def table(self) -> dict[str, Any]:
        """What `read` turns back into this rule, as JSON can hold it."""
        given = {key: value for key, value in vars(self).items() if key != "path"}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in given.items()}


def _texts(value: Any, path: str) -> tuple[str, ...]:
    given = [value] if isinstance(value, str) else value
    if not isinstance(given, list | tuple) or not given or not all(isinstance(item, str) for item in given):
        raise InvalidArgument(f"`{path}` must be a list of texts, got {value!r}")
    return tuple(given)


def _located(spec: str, path: str) -> Format:
    try:
        return parse(spec)
    except InvalidArgument as error:
        raise InvalidArgument(f"`{path}`: {error}") from None


def with_rules(base: PlanSpace, rules: Sequence[Rule], *, channels: bool = True) -> PlanSpace:
    """The network of `base` with the genes that `rules` say, and its genes of channels unless `channels` is False.

    A tensor takes the first rule that fits it; one that none fits stays in float32. A weight that an earlier layer
    holds has no gene: it has that one's format.

    Raises:
        UnknownName: a pattern that fits no layer.
        InvalidArgument: nothing left to search, two genes of one name, a type that no layer has, or a format that does
            not fit a tensor.
    """
    aliases = _aliases(base.network)
    network = base.network.asking({kind for rule in rules for kind in rule.types})
    for rule in rules:
        _require_types(rule, network)
        if "data_out" in rule.tensors:
            network = network.asking(outputs=[layer.name for layer in _fitting(rule, network.able, aliases)])
    layers = network.able
    taken: set[str] = set()
    genes: list[Gene] = []
    targets: dict[str, list[str]] = {}
    defaults: dict[str, Format] = {}
    for rule in rules:
        choices = tuple(parse(spec) for spec in dict.fromkeys(rule.formats))
        for name, tensors in _grouped(rule, _fitting(rule, layers, aliases), taken, network.shared).items():
            if len(choices) == 1:
                defaults |= dict.fromkeys(tensors, choices[0])
            else:
                genes.append(Gene(name, choices, group=tensors[0].rpartition(".")[0] if rule.share != "all" else ""))
                targets[name] = tensors
    kept = base.channel_genes if channels else {}
    genes += kept
    targets |= {gene.name: list(driven) for gene, driven in kept.items()}
    if not genes:
        raise InvalidArgument("nothing to search: every rule has a single format; give one of them at least two")
    return PlanSpace(network, genes, targets=targets, defaults=defaults, round_to=base.round_to)


def _require_types(rule: Rule, network: Network) -> None:
    """Raise unless `network` has layers of the optional types of `rule`, and these are the types of its layers."""
    for pattern in rule.layers:
        if pattern in network.barred and pattern not in {layer.name for layer in network.able}:
            raise InvalidArgument(f"layer `{pattern}` can have no formats: {network.barred[pattern]}; leave it out")
    there = {layer.type for layer in network.able}
    for kind in rule.types:
        if kind in OPTIONAL and kind not in there:
            raise InvalidArgument(
                f"`types` of a rule has `{kind}`, but the network has no such layer that could have formats; "
                f"it has {', '.join(sorted(there))}"
            )
    for pattern in rule.layers:
        types = {one.type for one in network.layers if fnmatch.fnmatchcase(one.name, pattern)}
        left_out = sorted(types & set(OPTIONAL) - set(rule.types))
        if left_out and not types & {*TYPES, *rule.types}:
            raise InvalidArgument(
                f"layer `{pattern}` is of type `{left_out[0]}`, which the rule leaves out; add it to `types`"
            )


def _fitting(rule: Rule, layers: Sequence[Layer], aliases: Mapping[str, str]) -> list[Layer]:
    layers = [layer for layer in layers if layer.type in (*TYPES, *rule.types)]
    names = [layer.name for layer in layers]
    patterns = [aliases.get(pattern, pattern) for pattern in rule.layers]
    for given, pattern in zip(rule.layers, patterns, strict=True):
        if not fnmatch.filter(names, pattern):
            raise unknown_name(f"layer in `{rule.path}`" if rule.path else "layer", given, names)
    found = [layer for layer in layers if any(fnmatch.fnmatchcase(layer.name, pattern) for pattern in patterns)]
    return [layer for layer in found if layer.type in rule.types]


def _aliases(network: Network) -> dict[str, str]:
    """Other ways to write a layer's name: as a node (`block1_conv1`), and by its place (`seq_blocks_2`)."""
    layers = [layer for layer in network.layers if layer.kind not in ("parameter", "matmul", "add", "embedding")]
    places = {f"seq_blocks_{place}": layer.name for place, layer in enumerate(layers)}
    nodes = {layer.name.replace(".", "_"): layer.name for layer in layers}
    return places | nodes | {layer.name: layer.name for layer in layers}


def _grouped(rule: Rule, layers: Sequence[Layer], taken: set[str], shared: Mapping[str, str]) -> dict[str, list[str]]:
    """Gene name to the tensors it drives, `shared` as in `Network`; marks them as taken."""
    found: dict[str, list[str]] = {}
    for layer in layers:
        for tensor in tensors_of(layer, rule.tensors):
            target = f"{layer.name}.{tensor}"
            if target in taken:
                continue
            taken.add(target)
            together = {"tensor": target, "layer": layer.name, "type": layer.type, "all": rule.name or "formats"}
            together["activation"] = shared.get(target, target)
            found.setdefault(together[rule.share], []).append(target)
    return found


def tensors_of(layer: Layer, tensors: Sequence[str]) -> list[str]:
    """Those of `tensors` that `layer` has formats for; `data_in` means both operands of a product of activations."""
    asked = [slot for tensor in tensors for slot in ((tensor, "data_in2") if tensor == "data_in" else (tensor,))]
    return [slot for slot in dict.fromkeys(asked) if layer.has(slot)]
