"""Handwritten digits: a small MLP whose fixed-point widths and hidden layers are searched.

Source: the 1,797 8 x 8 images of the UCI set "Optical Recognition of Handwritten Digits" (E. Alpaydin,
C. Kaynak, 1998, CC BY 4.0), as they ship inside scikit-learn. Pixels are divided by 16.

Split, stratified and fixed: 719 train, 719 validate, 359 test. As many validate as train because the search
compares candidates there, and the noise of that comparison is what limits it.

Network: 64-48-32-10 with ReLU, trained for 60 epochs with Adam. Float accuracy to expect on test: 0.95 to 0.97.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from evonas.costs import DEFAULT_LATENCY
from evonas.describe import describe
from evonas.errors import InvalidArgument
from evonas.formats import Fixed, parse_list
from evonas.graph import find_chains
from evonas.plan import Network, PlanSpace
from evonas.problem.data import Split
from evonas.problem.network import NetworkProblem
from evonas.space import Gene
from evonas.training import Recipe, seeded, train_kept

__all__ = ["Digits", "digits", "digits_ptq"]

WIDTHS = (2, 3, 4, 5, 6, 7, 8, 16)
PTQ_WIDTHS = (2, 3, 4, 5, 6, 8)
MULTIPLIERS = (0.25, 0.5, 1.0, 2.0)
EPOCHS = 60
LEARNING_RATE = 1e-2
BATCH = 64
Frac = Literal["calibrated", "half"]


class Digits(NetworkProblem):
    """Widths of data and weights of three linear layers, and the widths of two hidden layers.

    Args:
        name: for the run directory.
        widths: fixed-point widths, in bits, ascending.
        multipliers: of both chains, ascending; `(1.0,)` fixes the channels, and they have no genes.
        frac: `calibrated` chooses each fraction width by least squared error on the training data, `half`
            puts the binary point in the middle.
        train_seed: of initialisation and shuffling.
        epochs: of training.
        latency: where latency comes from, such as `roofline:pynq-z1`.
        formats: specs of any family instead of `widths`, separated by commas, such as `fixed4,int8c,mxfp4e2m1`.

    Raises:
        InvalidArgument: an option out of range.
    """

    classes = 10

    def __init__(
        self,
        name: str = "digits",
        widths: Sequence[int] = WIDTHS,
        multipliers: Sequence[float] = MULTIPLIERS,
        *,
        frac: Frac = "calibrated",
        train_seed: int = 0,
        epochs: int = EPOCHS,
        latency: str = DEFAULT_LATENCY,
        formats: str = "",
    ) -> None:
        if frac not in ("calibrated", "half"):
            raise InvalidArgument(f"`frac` must be calibrated or half, got `{frac}`")
        if epochs < 0:
            raise InvalidArgument(f"`epochs` must be 0 or more, got {epochs}")
        self.name = name
        self.options = {
            "frac": frac,
            "train_seed": train_seed,
            "epochs": epochs,
            "latency": latency,
            "formats": formats,
        }
        self.train_seed = train_seed
        self.epochs = epochs
        network = network_of_digits()
        fixed = [Fixed(width) if frac == "calibrated" else Fixed(width).half() for width in widths]
        choices = parse_list(formats) if formats else tuple(fixed)
        genes = [
            Gene(f"{layer}.{slot}", choices, group=layer)
            for layer in ("fc1", "fc2", "fc3")
            for slot in ("data_in", "weight")
        ]
        if tuple(multipliers) != (1.0,):
            labels = tuple(f"x{multiplier:g}" for multiplier in multipliers)
            genes += [Gene(chain.name, tuple(multipliers), labels) for chain in network.chains]
        biases = {f"{layer}.bias": Fixed(16) for layer in ("fc1", "fc2", "fc3")}
        super().__init__(PlanSpace(network, genes, defaults=biases), latency=latency)

    def splits(self) -> tuple[Split, Split, Split]:
        """Train, validation and test."""
        return splits()

    def trained(self, channels: Mapping[str, int]) -> nn.Module:
        """The MLP with `hidden1` and `hidden2` units, trained from `seed`; kept once trained."""
        self.train_all([channels])
        model = self._untrained(channels)
        kept = self.weights.load(self._key(channels))
        assert kept is not None
        model.load_state_dict(kept)
        return model.eval()

    def train_all(
        self, configurations: Sequence[Mapping[str, int]], told: Callable[[int, int], None] | None = None
    ) -> None:
        """Train the networks of these configurations that are not kept yet, together."""
        train_kept(
            self.weights,
            {self._key(channels): partial(self._untrained, channels) for channels in configurations},
            self.train_split.inputs,
            self.train_split.targets,
            widest=lambda: self._untrained(self.widest()),
            epochs=self.epochs,
            seed=self.train_seed,
            recipe=Recipe(learning_rate=LEARNING_RATE, batch=BATCH),
            told=told,
        )

    def _untrained(self, channels: Mapping[str, int]) -> nn.Module:
        return seeded(lambda: _Mlp(64, channels["hidden1"], channels["hidden2"], 10), self.train_seed)

    def _key(self, channels: Mapping[str, int]) -> str:
        """The name of weights: the widest network is in it because its size is that of the padding."""
        mine, most = (f"{counts['hidden1']}-{counts['hidden2']}" for counts in (channels, self.widest()))
        return f"digits-{mine}-of-{most}-s{self.train_seed}-e{self.epochs}"

    def summary(self) -> list[str]:
        """The split, and the float accuracy of the original network on test."""
        sizes = [len(split) for split in self.splits()]
        model = self.trained({"hidden1": 48, "hidden2": 32})
        with torch.no_grad():
            right = model(self.test_split.inputs).argmax(1) == self.test_split.targets
        share = self.share(right)
        return [
            f"data: 1,797 digits, {sizes[0]} train, {sizes[1]} validation, {sizes[2]} test",
            f"float32 64-48-32-10 network: accuracy on test {share.value:.4f} [{share.low:.4f}, {share.high:.4f}]",
        ]


def digits(
    *,
    frac: Frac = "calibrated",
    train_seed: int = 0,
    epochs: int = EPOCHS,
    latency: str = DEFAULT_LATENCY,
    formats: str = "",
) -> Digits:
    """Two formats for each of three layers, a multiplier for each of two chains: 8 genes, 4.2 million genomes."""
    return Digits(
        "digits", WIDTHS, MULTIPLIERS, frac=frac, train_seed=train_seed, epochs=epochs, latency=latency, formats=formats
    )


def digits_ptq(
    *,
    frac: Frac = "calibrated",
    train_seed: int = 0,
    epochs: int = EPOCHS,
    latency: str = DEFAULT_LATENCY,
    formats: str = "",
) -> Digits:
    """Six widths for data and weight of each of three layers, channels fixed: 6 genes, 46,656 genomes."""
    return Digits(
        "digits-ptq",
        PTQ_WIDTHS,
        (1.0,),
        frac=frac,
        train_seed=train_seed,
        epochs=epochs,
        latency=latency,
        formats=formats,
    )


class _Mlp(nn.Module):
    def __init__(self, inputs: int, first: int, second: int, outputs: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(inputs, first)
        self.fc2 = nn.Linear(first, second)
        self.fc3 = nn.Linear(second, outputs)

    def forward(self, values: Tensor) -> Tensor:
        values = torch.relu(self.fc1(values))
        values = torch.relu(self.fc2(values))
        logits: Tensor = self.fc3(values)
        return logits


@cache
def network_of_digits() -> Network:
    """Layers and chains of the original network."""
    model = seeded(lambda: _Mlp(64, 48, 32, 10), 0).eval()
    return describe(find_chains(model, torch.zeros(1, 64)), names={"chain0": "hidden1", "chain1": "hidden2"})


@cache
def splits() -> tuple[Split, Split, Split]:
    """Train, validation and test, the same on every machine."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    images = (images / 16.0).astype(np.float32)
    search, held, search_labels, held_labels = train_test_split(
        images, labels, test_size=719, stratify=labels, random_state=0
    )
    first, last, first_labels, last_labels = train_test_split(
        search, search_labels, test_size=359, stratify=search_labels, random_state=0
    )
    parts = ((first, first_labels), (held, held_labels), (last, last_labels))
    train_part, validation, test = (
        Split(torch.from_numpy(inputs), torch.from_numpy(np.asarray(targets, dtype=np.int64)))
        for inputs, targets in parts
    )
    return train_part, validation, test
