"""Build or load nets by name; a plain net and its SE twin share one declaration."""

from minise.models.architecture import Architecture as Architecture
from minise.models.architecture import NetSettings as NetSettings
from minise.models.named import architecture as architecture
from minise.models.named import build as build
from minise.models.named import names as names
from minise.models.named import settings as settings
from minise.models.net import Net as Net
from minise.models.resnet_cifar import resnet_cifar as resnet_cifar
from minise.models.trained import Trained as Trained
from minise.models.trained import load as load
from minise.models.wide_resnet import wide_resnet as wide_resnet
