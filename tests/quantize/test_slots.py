"""Every kind of layer under formats, against the same computation written out with torch's own functions."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evonas.costs import arithmetic
from evonas.describe import describe
from evonas.engine import Engine
from evonas.errors import InvalidArgument
from evonas.formats import Format, parse
from evonas.graph import find_chains
from evonas.network import OPTIONAL, Network
from evonas.plan import LayerPlan, PlanSpace
from evonas.problem.genes import Rule, with_rules
from evonas.quantize import PostTraining
from evonas.space import Gene
from evonas.training import seeded


def ready(
    model: nn.Module, inputs: Tensor, specs: Mapping[str, str], outputs: tuple[str, ...] = (), method: str = "mse"
) -> tuple[Tensor, dict[str, LayerPlan], Network]:
    """What `model` returns under the formats `specs`, the concrete plan of each layer, and the network."""
    network = describe(find_chains(model.eval(), inputs)).asking(OPTIONAL, outputs)
    space = PlanSpace(network, [Gene(name, (parse(spec),)) for name, spec in specs.items()])
    plan = space.plan(np.zeros(len(specs), dtype=np.int64))
    quantized = PostTraining(model, inputs, network, method=method)
    concrete = {part.layer.name: part for part in quantized.concrete(plan).layers}
    return quantized.forward(plan, inputs), concrete, network


def fixed(values: Tensor, total: int, frac: int) -> Tensor:
    """Fixed point, from its definition."""
    low, high = -(2 ** (total - 1)), 2 ** (total - 1) - 1
    return (values * 2.0**frac).round().clamp(low, high) / 2.0**frac


class Attends(nn.Module):
    """Attention with queries, keys and values of 2 heads of 3, as one function or as two products."""

    def __init__(
        self, fused: bool, causal: bool = False, scale: float | None = None, mask: Tensor | None = None
    ) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(6, 6) for _ in range(4))
        self.fused, self.options = fused, {"is_causal": causal, "scale": scale}
        self.mask = mask

    def heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = (layer(x).unflatten(2, (2, 3)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        return q, k, v

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.heads(x)
        if self.fused:
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=self.mask, **self.options)
        else:
            y = ((q @ k.transpose(-2, -1)) * 3**-0.5).softmax(-1) @ v
        return self.out(y.transpose(1, 2).flatten(2))


@pytest.mark.parametrize("fused", [True, False])
def test_both_products_of_attention(fused: bool) -> None:
    model, inputs = seeded(lambda: Attends(fused), 0), torch.randn(4, 5, 6)
    first, second = ("scores", "mix") if fused else ("matmul", "matmul_1")
    specs = {f"{first}.data_in": "fixed4.2", f"{first}.data_in2": "fixed5.3"}
    specs |= {f"{second}.data_in": "fixed6.5", f"{second}.data_in2": "fixed7.4"}
    found, _, _ = ready(model, inputs, specs)
    q, k, v = model.heads(inputs)
    scores = (fixed(q, 4, 2) @ fixed(k, 5, 3).transpose(-2, -1)) * 3**-0.5
    mixed = fixed(scores.softmax(-1), 6, 5) @ fixed(v, 7, 4)
    torch.testing.assert_close(found, model.out(mixed.transpose(1, 2).flatten(2)))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("masked", ["no", "bool", "float"])
def test_attention_in_two_halves_is_torchs(causal: bool, masked: str) -> None:
    mask = {"no": None, "bool": torch.rand(5, 5) < 0.7, "float": torch.randn(5, 5)}[masked]
    if mask is not None and causal:
        pytest.skip("torch takes one of them")
    if mask is not None and mask.dtype == torch.bool:
        mask |= torch.eye(5, dtype=torch.bool)
    model, inputs = seeded(lambda: Attends(True, causal, 0.3, mask), 0), torch.randn(4, 5, 6)
    found, _, _ = ready(model, inputs, {"scores.data_in": "float32"})
    torch.testing.assert_close(found, model(inputs))


class Adds(nn.Module):
    """A residual sum, written one of the ways there are."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.a, self.b = nn.Conv1d(2, 4, 1), nn.Conv1d(4, 4, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        z = self.b(y)
        if self.how == "method":
            return torch.relu(y.add(z))
        if self.how == "in place":
            y += z
            return torch.relu(y)
        if self.how == "add_":
            y.add_(z)
            return torch.relu(y)
        if self.how == "nested":
            return self.act(y + z)
        if self.how == "keyword":
            return torch.relu(torch.add(input=y, other=z))
        if self.how == "alpha":
            return torch.relu(torch.add(y, z, alpha=2))
        return torch.relu(y + z)


@pytest.mark.parametrize("how", ["operator", "method", "in place", "add_", "nested", "keyword", "alpha"])
def test_both_operands_of_a_sum_share_one_format(how: str) -> None:
    model, inputs = seeded(lambda: Adds(how), 0), torch.randn(8, 2, 5)
    found, plan, network = ready(model, inputs, {"add.data_in": "fixed4"})
    assert next(layer for layer in network.layers if layer.name == "add").slots == ("data_in",)
    y = model.a(inputs)
    z = model.b(y)
    shared = parse("fixed4").calibrate(torch.cat([y, z]))
    assert plan["add"].data_in == shared
    wanted = shared.quantize(y) + (2 if how == "alpha" else 1) * shared.quantize(z)
    assert torch.equal(found, torch.relu(wanted))


def test_scales_per_channel_of_a_sum_lie_along_its_channels() -> None:
    model, inputs = seeded(lambda: Adds("operator"), 0), torch.randn(8, 2, 5)
    found, plan, _ = ready(model, inputs, {"add.data_in": "int4c"})
    assert len(plan["add"].data_in.scale) == 4
    y = model.a(inputs)
    assert not torch.equal(found, model(inputs))
    torch.testing.assert_close(found, torch.relu(y + model.b(y)), atol=1.0, rtol=0)


class Broadcasts(nn.Module):
    """Sums that are no residuals: a bias, a mask, a parameter, sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.gate = nn.Linear(4, 4), nn.Linear(4, 1)
        self.place = nn.Parameter(torch.randn(3, 4))

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x) + self.place
        y = y + self.gate(y)
        return y + 1.0 + x.shape[1] * (x.shape[1] + x.shape[2])


def test_what_is_broadcast_or_a_parameter_is_no_residual() -> None:
    network = describe(find_chains(Broadcasts().eval(), torch.randn(2, 3, 4)))
    assert not [layer for layer in network.layers if layer.kind == "add"]


class Looks(nn.Module):
    """A table and a head that shares its weight."""

    def __init__(self, tied: bool) -> None:
        super().__init__()
        self.table, self.mid = nn.Embedding(7, 4), nn.Linear(4, 4)
        self.head = nn.Linear(4, 7, bias=False)
        if tied:
            self.head.weight = self.table.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.mid(self.table(x))))


def test_an_embedding_has_a_format_for_its_table() -> None:
    model, inputs = seeded(lambda: Looks(False), 0), torch.arange(12).reshape(3, 4) % 7
    found, plan, _ = ready(model, inputs, {"table.weight": "fixed3.1"})
    table = fixed(model.table.weight, 3, 1)
    assert torch.equal(found, model.head(torch.relu(model.mid(table[inputs]))))
    assert set(plan["table"].formats) == {"weight"}


@pytest.mark.parametrize("method", ["mse", "auto"])
def test_a_weight_that_is_shared_has_one_format(method: str) -> None:
    model, inputs = seeded(lambda: Looks(True), 0), torch.arange(12).reshape(3, 4) % 7
    found, plan, network = ready(model, inputs, {"head.weight": "int3"}, method=method)
    assert {layer.name: layer.tied for layer in network.layers}["table"] == "head"
    assert plan["table"].weight == plan["head"].weight
    weight = plan["head"].weight.quantize(model.head.weight)
    assert torch.equal(found, F.linear(torch.relu(model.mid(weight[inputs])), weight))


class Functions(nn.Module):
    """Layers whose weights are arguments of functions."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(4, 2, 3))
        self.weight = nn.Parameter(torch.randn(3, 16))
        self.bias = nn.Parameter(torch.randn(3))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(F.conv1d(x, self.kernel, padding=1))
        return F.linear(x.flatten(1), self.weight, bias=self.bias)


def test_a_function_takes_its_weight_in_a_format() -> None:
    model, inputs = seeded(Functions, 0), torch.randn(3, 2, 4)
    specs = {"kernel.weight": "fixed4.1", "kernel.data_in": "fixed4.2", "weight.weight": "fixed3.1"}
    found, _, _ = ready(model, inputs, specs)
    x = torch.relu(F.conv1d(fixed(inputs, 4, 2), fixed(model.kernel, 4, 1), padding=1))
    assert torch.equal(found, F.linear(x.flatten(1), fixed(model.weight, 3, 1), model.bias))


class Stored(nn.Module):
    """A product with a matrix of the model, written one of the ways there are."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.a, self.c, self.how = nn.Linear(6, 4), nn.Linear(5, 3), how
        self.weight, self.bias = nn.Parameter(torch.randn(4, 5)), nn.Parameter(torch.randn(5))

    def forward(self, x: Tensor) -> Tensor:
        x, w = self.a(x), self.weight
        ways = {
            "@": lambda: x @ w + self.bias,
            "matmul": lambda: torch.matmul(x, other=w),
            "method": lambda: x.matmul(w),
            "mm": lambda: torch.mm(x, w),
            "addmm": lambda: torch.addmm(self.bias, x, w),
            "einsum": lambda: torch.einsum("bi,io->bo", x, w),
            "turned": lambda: F.linear(x, w.t()),
            "twice": lambda: F.linear(F.linear(x @ w, w) @ w, torch.eye(5)),
        }
        return self.c(ways[self.how]())


@pytest.mark.parametrize("how", ["@", "matmul", "method", "mm"])
def test_a_product_with_a_matrix_of_the_model_is_a_layer(how: str) -> None:
    model, inputs = seeded(lambda: Stored(how), 0), torch.randn(8, 6)
    specs = {"weight.data_in": "fixed4.1", "weight.weight": "fixed3.1"}
    found, _, network = ready(model, inputs, specs)
    product = fixed(model.a(inputs), 4, 1) @ fixed(model.weight, 3, 1)
    assert torch.equal(found, model.c(product + model.bias if how == "@" else product))
    assert next(layer for layer in network.layers if layer.name == "weight").type == "functional"
    assert not network.barred


@pytest.mark.parametrize(("spec", "axis"), [("int4c", 1), ("bfp4b2", 0)])
def test_scales_and_blocks_of_such_a_matrix_lie_where_its_outputs_and_inputs_are(spec: str, axis: int) -> None:
    model, inputs = seeded(lambda: Stored("@"), 0), torch.randn(8, 6)
    found, plan, _ = ready(model, inputs, {"weight.weight": spec})
    fmt: Format = plan["weight"].weight
    assert getattr(fmt, "axis") == axis  # noqa: B009
    weight = parse(spec if axis else "bfp4b2").calibrate(model.weight.t()).quantize(model.weight.t()).t()
    assert torch.equal(found, model.c(model.a(inputs) @ weight + model.bias))


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("addmm", "what multiplies with it at"),
        ("einsum", "what multiplies with it at"),
        ("turned", "its weight is computed from a parameter at"),
        ("twice", "its weight is used in another way at"),
    ],
)
def test_a_matrix_that_can_have_no_format_is_named_with_the_reason(how: str, why: str) -> None:
    model, inputs = seeded(lambda: Stored(how), 0), torch.randn(8, 6)
    network = describe(find_chains(model.eval(), inputs)).asking(OPTIONAL)
    assert network.barred["weight"].startswith(why)
    assert f'"{how}": lambda' in network.barred["weight"]
    assert "weight" not in {layer.name for layer in network.able}
    base = PlanSpace(network, [Gene("a.weight", (parse("fixed3"), parse("fixed4")))])
    rule = Rule(("fixed3", "fixed4"), types=("linear", "functional"), layers=("weight",))
    with pytest.raises(InvalidArgument, match="layer `weight` can have no formats: ") as caught:
        with_rules(base, [rule])
    assert "\n" not in str(caught.value)


def test_a_module_whose_weight_a_function_uses_too_says_that_it_is_float_there() -> None:
    class Again(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return F.linear(self.fc(x), self.fc.weight)

    model, inputs = seeded(Again, 0), torch.randn(8, 4)
    found, _, network = ready(model, inputs, {"fc.weight": "fixed3.1"})
    assert network.barred["fc"].startswith("in its use as a weight at `return F.linear(self.fc(x), self.fc.weight)`")
    assert torch.equal(found, F.linear(F.linear(inputs, fixed(model.fc.weight, 3, 1), model.fc.bias), model.fc.weight))


def test_a_table_that_a_function_looks_up_has_a_format() -> None:
    class Rows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rows, self.head = nn.Parameter(torch.randn(7, 4)), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(F.embedding(x, self.rows) + F.embedding(x + 1, weight=self.rows))

    model, inputs = seeded(Rows, 0), torch.arange(12).reshape(3, 4) % 6
    found, plan, _ = ready(model, inputs, {"rows.weight": "fixed3.1"})
    table = fixed(model.rows, 3, 1)
    assert torch.equal(found, model.head(table[inputs] + table[inputs + 1]))
    assert set(plan["rows"].formats) == {"weight"}


class Grouped(nn.Module):
    """Attention of 4 heads of queries, of which each two share a head of keys and values; it may drop."""

    def __init__(self, dropout: str = "") -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = nn.Linear(8, 8), nn.Linear(8, 4), nn.Linear(8, 4), nn.Linear(8, 3)
        self.dropout = dropout

    def heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = (layer(x).unflatten(2, (-1, 2)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        return q, k, v

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.heads(x)
        p = 0.5 if self.dropout == "always" or (self.dropout and self.training) else 0.0
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=p, enable_gqa=True)
        return self.out(y.transpose(1, 2).flatten(2))


@pytest.mark.parametrize("dropout", ["", "in training"])
def test_grouped_queries_have_formats_for_the_heads_that_they_share(dropout: str) -> None:
    model, inputs = seeded(lambda: Grouped(dropout), 0), torch.randn(4, 5, 8)
    specs = {"scores.data_in": "fixed4.2", "scores.data_in2": "fixed5.3", "mix.data_in": "fixed6.5"}
    found, _, network = ready(model, inputs, specs | {"mix.data_in2": "fixed7.4"})
    q, k, v = model.heads(inputs)
    k, v = (heads.repeat_interleave(2, 1) for heads in (fixed(k, 5, 3), fixed(v, 7, 4)))
    scores = (fixed(q, 4, 2) @ k.transpose(-2, -1)) * 2**-0.5
    mixed = fixed(scores.softmax(-1), 6, 5) @ v
    torch.testing.assert_close(found, model.out(mixed.transpose(1, 2).flatten(2)))
    shapes = {layer.name: (layer.second_positions, layer.second) for layer in network.layers if layer.kind == "matmul"}
    assert {name: positions * extent.count({}) for name, (positions, extent) in shapes.items()} == {
        "scores": 2 * 5 * 2,
        "mix": 2 * 5 * 2,
    }
    plans = PlanSpace(network, [Gene("q.weight", (parse("fixed4"),))]).plans(np.array([[0]]))
    products = 2 * (4 * 5 * 5 * 2)  # heads of queries, queries, keys, width of a head
    assert arithmetic.macs(plans)[0] == 5 * (8 * 8 + 2 * 8 * 4 + 8 * 3) + products
    plain, _, _ = ready(model, inputs, {"scores.data_in": "float32"})
    torch.testing.assert_close(plain, model(inputs))


def test_attention_that_drops_in_evaluation_too_says_so() -> None:
    model, inputs = seeded(lambda: Grouped("always"), 0), torch.randn(4, 5, 8)
    network = describe(find_chains(model.eval(), inputs)).asking(OPTIONAL)
    assert network.barred == dict.fromkeys(("scores", "mix"), "it drops at random in evaluation too (`dropout_p`)")
    assert not [layer for layer in network.quantizable if layer.kind == "matmul"]


CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
LAYERS = {
    "linear": (lambda: nn.Linear(6, 5), (2, 6)),
    "tokens": (lambda: nn.Linear(6, 5), (2, 3, 6)),
    **{f"conv{n}d": (partial(conv, 4, 6, 3, padding=1), (2, 4, *[5] * n)) for n, conv in enumerate(CONVS, 1)},
    "grouped": (lambda: nn.Conv2d(4, 6, 3, groups=2), (2, 4, 5, 5)),
    "depthwise": (lambda: nn.Conv1d(4, 8, 3, groups=4), (2, 4, 5)),
    **{f"transposed{n}d": (partial(conv, 4, 6, 2, 2), (2, 4, *[3] * n)) for n, conv in enumerate(TRANSPOSED, 1)},
    "transposed grouped": (lambda: nn.ConvTranspose2d(4, 6, 2, groups=2), (2, 4, 3, 3)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_all_four_tensors_of_a_module(name: str) -> None:
    make, shape = LAYERS[name]
    model, inputs = seeded(lambda: nn.Sequential(make()), 0), torch.randn(shape)
    specs = {"0.data_in": "fixed5.2", "0.weight": "int4c", "0.bias": "fixed6.4", "0.data_out": "fixed4.1"}
    found, plan, _ = ready(model, inputs, specs, ("0",))
    layer = model[0]
    axis = 1 if "transposed" in name else 0
    assert len(plan["0"].weight.scale) == layer.weight.shape[axis]
    scale = torch.tensor(plan["0"].weight.scale).reshape([-1 if d == axis else 1 for d in range(layer.weight.ndim)])
    weight = (layer.weight / scale).round().clamp(-8, 7) * scale
    parameters = {"weight": weight, "bias": fixed(layer.bias, 6, 4)}
    with torch.no_grad():
        wanted = torch.func.functional_call(layer, parameters, fixed(inputs, 5, 2))
    assert torch.equal(found, fixed(wanted, 4, 1))


@pytest.mark.parametrize(("spec", "slot"), [("bfp4b2", "data_in"), ("bfp4b2", "data_in2"), ("int4c", "data_in2")])
def test_blocks_of_a_product_lie_along_what_it_sums_over(spec: str, slot: str) -> None:
    model, inputs = seeded(lambda: Attends(False), 0), torch.randn(4, 5, 6)
    _, plan, _ = ready(model, inputs, {f"matmul_1.{slot}": spec})
    fmt: Format = getattr(plan["matmul_1"], slot)
    assert getattr(fmt, "axis") == {"data_in": -1, "data_in2": -2}[slot]  # noqa: B009
    if spec == "int4c":
        assert len(getattr(fmt, "scale")) == 5  # noqa: B009


def test_a_product_called_through_einsum() -> None:
    class Sums(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.c(torch.einsum("bnd,bmd->bnm", self.a(x), self.b(x)))

    model, inputs = seeded(Sums, 0), torch.randn(2, 3, 4)
    found, _, _ = ready(model, inputs, {"matmul.data_in": "fixed3.1", "matmul.data_in2": "fixed4.1"})
    product = fixed(model.a(inputs), 3, 1) @ fixed(model.b(inputs), 4, 1).transpose(1, 2)
    torch.testing.assert_close(found, model.c(product))


def test_what_plans_share_is_never_written_to() -> None:
    class Writes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 6), nn.Linear(4, 6), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            y, z = self.a(x), self.b(x)
            y.add_(z)
            return self.c(y)

    model, inputs = seeded(Writes, 0).eval(), torch.randn(8, 4)
    space = PlanSpace(describe(find_chains(model, inputs)), [Gene("b.weight", (parse("fixed3"), parse("fixed8")))])
    quantized = PostTraining(model, inputs, space.network)
    genomes = np.array([[0], [1]])
    for genome, found in zip(genomes, Engine(quantized, space).outputs(genomes, inputs), strict=True):
        assert torch.equal(found, quantized.forward(space.plan(genome), inputs))
