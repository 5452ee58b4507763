"""Random networks of every kind of layer, and the genes that drive them."""

from __future__ import annotations

import numpy as np

from evonas.chains import Chain, Extent
from evonas.formats import Fixed, Format
from evonas.plan import Layer, Network, PlanSpace
from evonas.space import Gene


def random_plan_space(rng: np.random.Generator, max_layers: int = 14) -> PlanSpace:
    """Layers with extents over up to three chains; some slots and chains with a gene, some with a default."""
    chains = tuple(Chain(f"chain{i}", int(rng.integers(1, 40))) for i in range(rng.integers(1, 4)))

    def extent() -> Extent:
        terms = tuple((chain.name, int(rng.integers(1, 10))) for chain in chains if rng.random() < 0.4)
        return Extent(int(rng.integers(1, 20)) if not terms or rng.random() < 0.3 else 0, terms)

    layers = []
    for i in range(rng.integers(1, max_layers)):
        kind = str(rng.choice(["linear", "conv", "batchnorm", "relu"]))
        inputs, outputs = extent(), extent()
        if kind in ("batchnorm", "relu"):
            layers.append(Layer(f"layer{i}", kind, inputs, inputs, positions=int(rng.integers(1, 30))))
            continue
        layers.append(
            Layer(
                f"layer{i}",
                kind,
                inputs,
                outputs,
                fan_in=extent() if rng.random() < 0.3 else None,
                taps=int(rng.integers(1, 10)) if kind == "conv" else 1,
                positions=int(rng.integers(1, 30)),
                input_positions=int(rng.integers(1, 30)),
                bias=bool(rng.random() < 0.5),
            )
        )
    layers.append(Layer("head", "linear", extent(), Extent(5)))
    network = Network(tuple(layers), chains)
    genes, defaults = [Gene("head.weight", formats(rng))], {}
    for layer in network.quantizable:
        for slot in layer.slots:
            name, dice = f"{layer.name}.{slot}", rng.random()
            if dice < 0.5 and name != "head.weight":
                genes.append(Gene(name, formats(rng)))
            elif dice < 0.8 and name != "head.weight":
                defaults[name] = Fixed(int(rng.integers(1, 17)))
    genes += [Gene(chain.name, (0.1, 0.5, 1.0, 3)) for chain in chains if rng.random() < 0.7]
    return PlanSpace(network, genes, defaults=defaults)


def formats(rng: np.random.Generator) -> tuple[Format, ...]:
    """Some widths, ascending."""
    return tuple(Fixed(int(width)) for width in sorted(rng.choice(np.arange(1, 17), size=3, replace=False)))
