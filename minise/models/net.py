"""What all models share."""

from minise.nn import Layer


class Net(Layer):
    """A layer from images (N, 3, H, W) to logits (N, num_classes).

    Parameters and states carry the names of the common PyTorch twin, so that weights travel.
    """

    @property
    def parameter_count(self) -> int:
        """How many numbers are learned; running statistics do not count."""
        return sum(array.size for array in self.named_parameters().values())
