"""Random networks whose genes mix formats of every family, and the shapes that their tensors have in PyTorch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import nn

from evonas.chains import Chain, Extent
from evonas.errors import InvalidArgument
from evonas.formats import parse
from evonas.network import OPTIONAL
from evonas.plan import Layer, Network, PlanSpace
from evonas.space import Gene

SPECS = tuple(
    spec
    for line in (
        "float32 fixed4 fixed8.4 int8 int4c int8a int6ac uint4 fp8e4m3 fp8e4m3bfit log4 binary binarys binarysc",
        "ternary ternarysc bfp6b16 bm6e3m2b4 blog4b8 mxint8 mxfp4e2m1 mxfp8e5m2",
    )
    for spec in line.split()
)


def random_mixed(rng: np.random.Generator) -> PlanSpace:
    """Layers of every kind on chains (depthwise, transposed, products, sums, ...), with genes for most tensors."""
    chains = tuple(Chain(f"c{i}", int(rng.integers(1, 7)) * 4) for i in range(int(rng.integers(1, 4))))
    widths = [
        Extent(int(rng.integers(1, 40))),
        *(Extent.of(chain) for chain in chains),
        Extent(int(rng.integers(1, 12))),
    ]
    layers = [_layer(f"l{i}", widths[i], widths[i + 1], rng) for i in range(len(widths) - 1)]
    layers.append(Layer("bn", "batchnorm", widths[1], widths[1], positions=3))
    for i in range(int(rng.integers(0, 4))):
        layers.insert(
            int(rng.integers(0, len(layers))), _between(f"e{i}", widths[int(rng.integers(1, len(widths)))], rng)
        )
    outputs = [layer.name for layer in layers if layer.kind != "batchnorm" and rng.random() < 0.3]
    network = Network(tuple(layers), chains).asking(OPTIONAL if rng.random() < 0.8 else (), outputs)
    genes = [Gene(chain.name, (0.5, 1.0, 2.0)) for chain in chains]
    for layer in network.quantizable:
        for slot in layer.slots:
            if rng.random() < 0.8:
                genes.append(_fitting(network, f"{layer.name}.{slot}", rng, genes[: len(chains)]))
    return PlanSpace(network, genes)


def _layer(name: str, inputs: Extent, outputs: Extent, rng: np.random.Generator) -> Layer:
    bias, kind = bool(rng.random() < 0.7), rng.choice(["linear", "conv", "depthwise", "transposed"])
    if kind == "linear":
        positions = int(rng.integers(1, 4))
        return Layer(name, "linear", inputs, outputs, positions=positions, input_positions=positions, bias=bias)
    if kind == "depthwise":
        return Layer(name, "conv", inputs, inputs, Extent(1), taps=9, positions=16, input_positions=16, bias=bias)
    transposed = kind == "transposed"
    uses = 16 if transposed else 4
    return Layer(
        name,
        "conv",
        inputs,
        outputs,
        inputs,
        9,
        positions=4,
        input_positions=16,
        uses=uses,
        bias=bias,
        transposed=transposed,
    )


def _between(name: str, width: Extent, rng: np.random.Generator) -> Layer:
    """A product of two activations, a sum or an embedding."""
    rows, columns = (int(rng.integers(1, 9)) for _ in range(2))
    kind = str(rng.choice(["matmul", "add", "embedding"]))
    if kind == "add":
        return Layer(
            name,
            kind,
            width,
            width,
            width,
            positions=rows,
            input_positions=rows,
            bias=False,
            axes=(-1, -1),
            places=(0,),
        )
    if kind == "embedding":
        return Layer(name, kind, Extent(1), width, Extent(30), positions=rows, bias=False)
    return Layer(
        name,
        kind,
        width,
        Extent(columns),
        width,
        positions=rows,
        input_positions=rows,
        bias=False,
        second=width,
        second_positions=columns,
        axes=(-1, -2),
        places=(0,),
    )


def _fitting(network: Network, target: str, rng: np.random.Generator, chains: list[Gene]) -> Gene:
    """A gene of a few formats that fit the tensor; the constructor says which do."""
    fitting = []
    for spec in rng.permutation(SPECS):
        gene = Gene(target, (parse(str(spec)),))
        try:
            PlanSpace(network, [*chains, gene])
        except InvalidArgument:
            continue
        fitting.append(gene.choices[0])
        if len(fitting) == 4:
            break
    return Gene(target, tuple(fitting))


def shape(layer: Layer, slot: str, channels: Mapping[str, int]) -> tuple[int, ...]:
    """The shape of one tensor as a PyTorch module has it; activations without the batch, channels last.

    Both operands of a sum are one tensor; those of a product have what it sums over last.
    """
    if not layer.has(slot):
        return ()
    inputs, outputs = layer.inputs.count(channels), layer.outputs.count(channels)
    if slot == "bias":
        return (outputs,) if layer.bias else ()
    if slot == "data_in":
        return (layer.input_positions * (2 if layer.kind == "add" else 1), inputs)
    if slot == "data_in2":
        assert layer.second is not None
        return (layer.second_positions, layer.second.count(channels))
    if slot == "data_out":
        return (layer.positions, outputs)
    if layer.kind == "embedding":
        return tuple(nn.Embedding(30, outputs).weight.shape)
    if layer.kind == "linear":
        return tuple(nn.Linear(inputs, outputs).weight.shape)
    groups = inputs // (layer.fan_in.count(channels) if layer.fan_in else inputs)
    made = nn.ConvTranspose2d if layer.transposed else nn.Conv2d
    return tuple(made(inputs, outputs, 3, groups=groups).weight.shape)
