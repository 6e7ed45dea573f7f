"""Build or load nets by name; a plain net and its SE twin share one declaration."""

from minise.models.architecture import Architecture as Architecture
from minise.models.architecture import NetSettings as NetSettings
from minise.models.densenet import densenet121 as densenet121
from minise.models.inception import bn_inception as bn_inception
from minise.models.inception_resnet import inception_resnet_v2 as inception_resnet_v2
from minise.models.mobilenet import mobilenet as mobilenet
from minise.models.named import architecture as architecture
from minise.models.named import build as build
from minise.models.named import names as names
from minise.models.named import settings as settings
from minise.models.net import Net as Net
from minise.models.resnet import resnet as resnet
from minise.models.resnet import resnext as resnext
from minise.models.resnet_cifar import resnet_cifar as resnet_cifar
from minise.models.senet import senet154 as senet154
from minise.models.shake_shake import shake_shake as shake_shake
from minise.models.shufflenet import shufflenet as shufflenet
from minise.models.trained import Trained as Trained
from minise.models.trained import load as load
from minise.models.vgg import vgg16 as vgg16
from minise.models.wide_resnet import wide_resnet as wide_resnet
