"""Energy of one inference, from the 45 nm table of Horowitz (ISSCC 2014, doi:10.1109/ISSCC.2014.6757323, figure 1.1.9).

The table, at 0.9 V, in picojoules: integer add 0.03 (8 bits) and 0.1 (32), integer multiply 0.2 and 3.1; float
add 0.4 (16 bits) and 0.9 (32), float multiply 1.1 and 3.7; 64 bits from an 8 KiB cache 10, from 32 KiB 20, from 1 MiB
100; 64 bits from DRAM 1,300 to 2,600.

What is assumed beyond it:

- an integer multiplier takes energy in proportion to the product of its operands' widths (0.2 pJ at 8 x 8, which
  gives 3.2 at 32 x 32, where the table has 3.1), and its sum is kept in 32 bits;
- a multiply-accumulate with a float32 operand is one of float32; every other format costs what integers of its
  width do;
- each layer reads its weights, bias and input once and writes its output once, in a 1 MiB on-chip memory;
- element-wise layers and sums are fused and free, and products of two activations without formats are float32.
"""

from __future__ import annotations

from evonas.costs.arithmetic import activation_macs, layer_macs, operand_widths, operands, summed
from evonas.costs.memory import traffic
from evonas.formats import Float32
from evonas.plan import Plans
from evonas.space import FloatArray

__all__ = ["energy"]

_MULTIPLY_8 = 0.2
_ADD_32 = 0.1
_FLOAT_MAC = 3.7 + 0.9
_MEMORY_BIT = 100 / 64
_PER_NANOJOULE = 1e3


def energy(plans: Plans) -> FloatArray:
    """Nanojoules of one sample, shape (n,)."""
    data, weight = operand_widths(plans)
    floats = operands(plans, lambda fmt: isinstance(fmt, Float32))
    product = _MULTIPLY_8 / 64 * (data * weight) + _ADD_32
    product[(floats[0] + floats[1]) > 0] = _FLOAT_MAC
    arithmetic = summed(layer_macs(plans) * product) + _FLOAT_MAC * activation_macs(plans)
    total: FloatArray = (arithmetic + _MEMORY_BIT * summed(traffic(plans))) / _PER_NANOJOULE
    return total
