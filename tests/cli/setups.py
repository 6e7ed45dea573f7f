"""What the table of user errors sets up: runs, folders of images, files of ops, failing calls."""

import errno
import json
import os
import shutil
import signal
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
from PIL import Image

from minise import models, nn
from minise.train import checkpoint as checkpoints
from minise.train.config import to_dict

RELU = "import numpy as np\nfrom minise.ops.reference import relu_backward\n"


def file(name, content=""):
    """Return a setup that writes a file."""

    def prepare(patch):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return prepare


def folder(name):
    """Return a setup that makes a folder."""
    return lambda patch: Path(name).mkdir(parents=True, exist_ok=True)


def ops(*lines):
    """Return a setup that writes my_ops.py, a ReLU with the body of forward, lines 4 and on."""
    body = "".join(f"    {line}\n" for line in lines)
    return file("my_ops.py", f"{RELU}def relu_forward(x):\n{body}")


def config(**changes):
    """Return a setup that changes a/config.json; a setting of None is deleted."""

    def prepare(patch):
        path = Path("a/config.json")
        content = json.loads(path.read_text())
        content["versions"]["minise"] = changes.pop("version", content["versions"]["minise"])
        content["config"].update(changes)
        path.write_text(json.dumps(content))

    return prepare


def photos(patch):
    """Write photos/, a folder of two classes with 4 training images and 2 test images each."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("test", 2)):
        for name in "ab":
            path = Path("photos", split, name)
            path.mkdir(parents=True)
            for k in range(count):
                pixels = rng.integers(0, 256, (8, 8, 3), np.uint8)
                Image.fromarray(pixels).save(path / f"{k}.png")


def lazy(patch):
    """Decode the images of folders when they are used."""
    patch.setattr("minise.data.folder.IN_MEMORY_BYTES", 0)


def removed(*names):
    """Return a setup that removes files or folders."""

    def prepare(patch):
        for name in names:
            path = Path(name)
            if path.is_dir():
                removed(*path.iterdir())(patch)
                path.rmdir()
            else:
                path.unlink()

    return prepare


def truncated(name, size):
    """Return a setup that cuts a file."""
    return lambda patch: os.truncate(name, size)


def calls(target, action, after=0):
    """Return a setup: each call of the function target, after the first ones, begins with action.

    action is an exception to raise, or a function.
    """

    def prepare(patch):
        path, _, name = target.rpartition(".")
        owner = resolved(path)
        function, count = getattr(owner, name), [0]

        def run(*arguments, **settings):
            count[0] += 1
            if count[0] > after:
                if not callable(action):
                    raise action
                action(*arguments, **settings)
            return function(*arguments, **settings)

        patch.setattr(owner, name, run)

    return prepare


def resolved(path):
    """Return the module, class or object of a dotted name."""
    try:
        return import_module(path)
    except ModuleNotFoundError:
        owner, _, name = path.rpartition(".")
        return getattr(resolved(owner), name)


def signals(target, number=signal.SIGINT, after=0, times=1):
    """Return a setup: signals arrive when target is called, after the first calls."""
    sent = []

    def send(*arguments, **settings):
        while len(sent) < times:
            sent.append(number)
            signal.raise_signal(number)

    return calls(target, send, after)


def oserror(code, path=None):
    """Return an OSError of the system's, such as errno.ENOSPC, as open raises it."""
    return OSError(code, os.strerror(code), *([] if path is None else [path]))


def write_fails(code, after=0):
    """Return a setup: flushing files to the disk fails; write_whole flushes file, then folder."""
    return calls("os.fsync", oserror(code), after)


def denied(target, path):
    """Return a setup: target, such as builtins.open, may not open the file."""

    def refuse(*arguments, **settings):
        if str(arguments[0]).endswith(path):
            raise oserror(errno.EACCES, path)

    return calls(target, refuse)


def full_log(patch):
    """Replace each new metrics.jsonl by a link to a device that is always full."""

    def link(path, *arguments, **settings):
        if path.name == "metrics.jsonl" and not path.is_symlink():
            path.symlink_to("/dev/full")

    calls("pathlib.Path.touch", link)(patch)


def checkpoint(**changes):
    """Return a setup that changes the settings in the best checkpoint of a."""

    def prepare(patch):
        saved = checkpoints.load(Path("a/best.safetensors"))
        settings = {**to_dict(saved.config), **changes}
        checkpoints.save(Path("a/best.safetensors"), saved._replace(config=settings))

    return prepare


def full_text(patch):
    """Let Path.write_text find no space on the disk."""
    calls("pathlib.Path.write_text", oserror(errno.ENOSPC))(patch)


def altered(patch):
    """Change one bit of a checkpoint."""
    content = bytearray(Path("a/best.safetensors").read_bytes())
    content[-1] ^= 1
    Path("a/best.safetensors").write_bytes(content)


def net_only(patch):
    """Replace a checkpoint by a file of its net alone."""
    nn.save(models.load("a").net, "a/best.safetensors")


def not_finite(patch):
    """Write NaN into a checkpoint and an image beside it."""
    saved = checkpoints.load(Path("a/best.safetensors"))
    saved.arrays["conv1.weight"][0] = np.nan
    checkpoints.save(Path("a/best.safetensors"), saved)


def third_class(patch):
    """Rename a class of the test images."""
    Path("photos/test/b").rename("photos/test/c")


def cut_cifar(patch):
    """Write files of CIFAR-10 that are too short."""
    for name in (*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"):
        file(f"cifar-10-batches-bin/{name}.bin", "too short")(patch)


def vanishing(patch):
    """Remove the training images when the first epoch begins."""
    patch.setattr("minise.data.folder.CACHE_BYTES", 0)
    calls("minise.train.loop.Loop.train_epoch", lambda *_: shutil.rmtree("photos/train"))(patch)


def no_pillow(patch):
    """Let the import of Pillow fail."""
    patch.setitem(sys.modules, "PIL", None)


def no_cupy(patch):
    """Let the import of CuPy fail."""
    patch.setitem(sys.modules, "cupy", None)
