"""Pooling layers: maximum and mean over windows, and over the whole image."""

from typing import Any, ClassVar

from minise.checks import Pair
from minise.nn.layers import pair
from minise.nn.op_layer import OpLayer
from minise.ops import reference
from minise.ops.backend import Backend


class GlobalAvgPool2d(OpLayer):
    """Mean over the whole image: (N, C, H, W) to (N, C)."""

    op = "global_avg_pool2d"


class GlobalMaxPool2d(OpLayer):
    """Maximum over the whole image: (N, C, H, W) to (N, C)."""

    op = "global_max_pool2d"


class MaxPool2d(OpLayer):
    """Maximum over windows; kernel, stride and padding are pairs (rows, columns) or one number."""

    op = "max_pool2d"
    keywords: ClassVar[tuple[str, ...]] = ("kernel", "stride", "padding", "ceil_mode")
    defaults: ClassVar[dict[str, Any]] = {
        "padding": (0, 0),
        "ceil_mode": False,
        "count_include_pad": True,
    }

    def __init__(
        self,
        kernel: int | Pair,
        *,
        stride: int | Pair | None = None,
        padding: int | Pair = 0,
        ceil_mode: bool = False,
        ops: Backend | str = reference,
    ) -> None:
        super().__init__(ops)
        where = type(self).__name__
        self.kernel = pair(where, "kernel", kernel, 1)
        self.stride = self.kernel if stride is None else pair(where, "stride", stride, 1)
        self.padding = pair(where, "padding", padding, 0)
        self.ceil_mode = ceil_mode


class AvgPool2d(MaxPool2d):
    """Mean over windows, defined as for MaxPool2d; count_include_pad counts the padding's zeros."""

    op, keywords = "avg_pool2d", (*MaxPool2d.keywords, "count_include_pad")

    def __init__(
        self, kernel: int | Pair, *, count_include_pad: bool = True, **settings: Any
    ) -> None:
        super().__init__(kernel, **settings)
        self.count_include_pad = count_include_pad
