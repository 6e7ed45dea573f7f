"""Residual units with pre-activation: normalisation and ReLU stand before each convolution.

Nothing follows the sum, so that a signal can pass all units unchanged. Where the shape changes the
shortcut is a 1x1 convolution of the pre-activated input; elsewhere it is x itself. Sites of the SE
block as in nn/residual.py.

Source: He et al., "Identity Mappings in Deep Residual Networks", arXiv:1603.05027.
"""

from minise.nn.inference import convolution, normalisation
from minise.nn.layer import Inference
from minise.nn.layers import Sequential
from minise.nn.residual import Build, ResidualUnit
from minise.ops.checks import Array


class PreActBlock(ResidualUnit):
    """Two 3x3 convolutions, each behind a normalisation and a ReLU."""

    EXPANSION = 1

    def __init__(self, channels_in: int, channels: int, stride: int, build: Build) -> None:
        super().__init__(build)
        self.projects = stride != 1 or channels_in != channels
        self.bn1 = build.norm(channels_in)
        self.conv1 = build.conv(channels_in, channels, 3, stride)
        self.bn2 = build.norm(channels)
        self.conv2 = build.conv(channels, channels, 3)
        self._add_se(build, channels_in, channels, channels)
        self.downsample = _projection(self.projects, channels_in, channels, stride, build)

    def forward(self, x: Array, training: bool) -> Array:
        """Return (N, channels, ceil(H / stride), ceil(W / stride))."""
        y = self.bn1.forward_relu(x, training)
        shortcut = self.downsample.forward(y if self.projects else x, training)
        shortcut = self._gate("identity", shortcut, training)
        y = self._gate("pre", y, training)
        y = self.conv1.forward(y, training)
        y = self.bn2.forward_relu(y, training)
        y = self._gate("3x3", y, training)
        y = self.conv2.forward(y, training)
        y = self._gate("standard", y, training)
        y, cache = self.ops.add_forward(y, shortcut)
        self._remember(cache)
        return self._gate("post", y, training)

    def backward(self, dout: Array) -> Array:
        """Return dx: what comes through the branch and through the shortcut, added."""
        dy = self._gate_backward("post", dout)
        dy, dshortcut = self.ops.add_backward(dy, self._recall())
        dy = self._gate_backward("standard", dy)
        dy = self.conv2.backward(dy)
        dy = self._gate_backward("3x3", dy)
        dy = self.bn2.backward_relu(dy)
        dy = self.conv1.backward(dy)
        dy = self._gate_backward("pre", dy)
        dshortcut = self._gate_backward("identity", dshortcut)
        dshortcut = self.downsample.backward(dshortcut)
        dy = self._sum(dy, dshortcut) if self.projects else dy
        dy = self.bn1.backward_relu(dy)
        return dy if self.projects else self._sum(dy, dshortcut)

    def folded(self) -> Inference:
        """Return forward's lines; a convolution has the normalisation behind it in itself."""
        downsample, identity_gate = self.downsample.inference(), self._gated("identity")
        before, inside, after = (self._gated(site) for site in ("pre", "3x3", "post"))
        bn1 = normalisation(self.bn1, relu=True)
        conv1 = convolution(self.conv1, self.bn2, relu=True)
        conv2 = self._end(self.conv2, None, relu=False)

        def run(x: Array) -> Array:
            y = bn1(x)
            shortcut = identity_gate(downsample(y if self.projects else x))
            y = inside(conv1(before(y)))
            return after(conv2(y, shortcut))

        return run


class PreActBottleneck(ResidualUnit):
    """Convolutions 1x1, 3x3 and 1x1, each behind a normalisation and a ReLU.

    The 3x3 one works on `channels`, the last one returns EXPANSION times as many.
    """

    EXPANSION = 4

    def __init__(self, channels_in: int, channels: int, stride: int, build: Build) -> None:
        super().__init__(build)
        wide = self.EXPANSION * channels
        self.projects = stride != 1 or channels_in != wide
        self.bn1 = build.norm(channels_in)
        self.conv1 = build.conv(channels_in, channels, 1)
        self.bn2 = build.norm(channels)
        self.conv2 = build.conv(channels, channels, 3, stride)
        self.bn3 = build.norm(channels)
        self.conv3 = build.conv(channels, wide, 1)
        self._add_se(build, channels_in, channels, wide)
        self.downsample = _projection(self.projects, channels_in, wide, stride, build)

    def forward(self, x: Array, training: bool) -> Array:
        """Return (N, EXPANSION * channels, ceil(H / stride), ceil(W / stride))."""
        y = self.bn1.forward_relu(x, training)
        shortcut = self.downsample.forward(y if self.projects else x, training)
        shortcut = self._gate("identity", shortcut, training)
        y = self._gate("pre", y, training)
        y = self.conv1.forward(y, training)
        y = self.bn2.forward_relu(y, training)
        y = self.conv2.forward(y, training)
        y = self.bn3.forward_relu(y, training)
        y = self._gate("3x3", y, training)
        y = self.conv3.forward(y, training)
        y = self._gate("standard", y, training)
        y, cache = self.ops.add_forward(y, shortcut)
        self._remember(cache)
        return self._gate("post", y, training)

    def backward(self, dout: Array) -> Array:
        """Return dx: what comes through the branch and through the shortcut, added."""
        dy = self._gate_backward("post", dout)
        dy, dshortcut = self.ops.add_backward(dy, self._recall())
        dy = self._gate_backward("standard", dy)
        dy = self.conv3.backward(dy)
        dy = self._gate_backward("3x3", dy)
        dy = self.bn3.backward_relu(dy)
        dy = self.conv2.backward(dy)
        dy = self.bn2.backward_relu(dy)
        dy = self.conv1.backward(dy)
        dy = self._gate_backward("pre", dy)
        dshortcut = self._gate_backward("identity", dshortcut)
        dshortcut = self.downsample.backward(dshortcut)
        dy = self._sum(dy, dshortcut) if self.projects else dy
        dy = self.bn1.backward_relu(dy)
        return dy if self.projects else self._sum(dy, dshortcut)

    def folded(self) -> Inference:
        """Return forward's lines; a convolution has the normalisation behind it in itself."""
        downsample, identity_gate = self.downsample.inference(), self._gated("identity")
        before, inside, after = (self._gated(site) for site in ("pre", "3x3", "post"))
        bn1 = normalisation(self.bn1, relu=True)
        conv1 = convolution(self.conv1, self.bn2, relu=True)
        conv2 = convolution(self.conv2, self.bn3, relu=True)
        conv3 = self._end(self.conv3, None, relu=False)

        def run(x: Array) -> Array:
            y = bn1(x)
            shortcut = identity_gate(downsample(y if self.projects else x))
            y = inside(conv2(conv1(before(y))))
            return after(conv3(y, shortcut))

        return run


def _projection(
    projects: bool, channels_in: int, channels: int, stride: int, build: Build
) -> Sequential:
    """Return a 1x1 convolution, or the identity where the shape stays."""
    layers = [build.conv(channels_in, channels, 1, stride)] if projects else []
    return Sequential(*layers, ops=build.ops)
