"""Options of the problems about networks, as a person writes them on the command line."""

from __future__ import annotations

from evonas.errors import InvalidArgument
from evonas.problem.joint import JointSpace, parse_pairs

__all__ = ["joint_space", "numbers"]


def joint_space(
    *,
    widths: str,
    multipliers: str,
    uniform: bool = False,
    round_to: int = 1,
    pairs: str = "",
    layers: str = "",
) -> JointSpace:
    """The space that the options ask for.

    Args:
        widths: bits or formats, such as `2,4,8` or `mxint4,mxint8`; `float` leaves the layers in float32.
        multipliers: such as `0.5,1,2`; `1` keeps the channels.
        uniform: one multiplier for all chains.
        round_to: channel counts are multiples of it.
        pairs: multipliers by hand, such as `[(1, 2), (2, 1)]`.
        layers: names or patterns of the layers that get formats; all when empty.

    Raises:
        InvalidArgument: a text that does not parse.
    """
    words = [] if widths.strip() in ("float", "float32") else _words("widths", widths)
    return JointSpace(
        widths=[int(word) if word.isdecimal() else word for word in words],
        multipliers=numbers("multipliers", multipliers),
        uniform=uniform,
        round_to=round_to,
        pairs=parse_pairs(pairs) if pairs else None,
        layers=_words("layers", layers) if layers else None,
    )


def numbers(name: str, text: str) -> list[float]:
    """`1,2,4` as numbers.

    Raises:
        InvalidArgument: a word that is no number.
    """
    try:
        return [float(word) for word in _words(name, text)]
    except ValueError:
        raise InvalidArgument(f"`{name}` must be numbers separated by commas, got `{text}`") from None


def _words(name: str, text: str) -> list[str]:
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words:
        raise InvalidArgument(f"`{name}` is empty; give choices separated by commas")
    return words
