"""Every failure that a user can cause ends in one line and a documented exit status.

Each entry of the table is a command, its exit status, a regular expression for the line on standard
error, and what is set up before. The folder a has a run of TINY. Exit statuses are 1 for a failed
run or check, 2 for misuse, 128 and the number of the signal for an interrupted command.
"""

import errno
import io
import os
import re
import shutil
import subprocess
import sys
from signal import SIGTERM

import pytest

from minise.cli import main
from minise.ops.cuda.cupy_launcher import KernelFault
from tests.cli import setups
from tests.cli.commands import call
from tests.cli.setups import (
    calls,
    checkpoint,
    config,
    denied,
    file,
    folder,
    lazy,
    ops,
    oserror,
    photos,
    removed,
    signals,
    truncated,
    write_fails,
)

TINY = "train --data shapes10 --limit 8 --val 4 --batch-size 4 --model resnet8 --lr 0.01"
TRAIN = f"{TINY} --epochs 2 --name b"
OPS = f"{TINY} --epochs 1 --ops my_ops.py"
PHOTOS = "train --data photos --size 8 --crop 0 --val 2 --batch-size 4 --model resnet8 --epochs 1"
STEP, EVALUATE = "minise.train.loop.train_step", "minise.train.loop.evaluate"
NONE = "; no checkpoint is written$"
START = "; runs/resnet8-shapes10-1/last.safetensors has the state after step 0$"
LAST = "; runs/b/last.safetensors has the state after step"
TO_CONTINUE = "; to continue: minise resume runs/b$"
SAVED = f", saved in runs/b/last.safetensors{TO_CONTINUE}"
FULL = (
    r"cannot be written \(No space left on device; [\d,]+ bytes are free, [\d,]+ are needed\): free"
)
BEST = "a/best.safetensors"
FAULT = KernelFault("scale failed on the GPU (cudaErrorIllegalAddress)")
CUDA_ERROR = type("CUDARuntimeError", (RuntimeError,), {"__module__": "cupy_backends.cuda.api"})(
    "cudaErrorLaunchFailure: unspecified launch failure"
)
DENIED = r"cannot be read .*\(Permission denied\): check .*permissions"

ARGUMENTS = [
    ("trian", 2, "verb is 'trian', expected one of .*: did you mean train"),
    ("--verison", 2, "verb is '--verison', .*: did you mean --version"),
    ("train --batch-sizes 3", 2, "train: --batch-sizes is unknown, .*did you mean --batch-size"),
    ("train cifar10", 2, "train: 'cifar10' is one value too many, .*: minise train --help"),
    ("doctor jit", 2, "doctor: 'jit' is one value too many, .*: minise doctor --help"),
    ("train --epochs many", 2, "train: --epochs is 'many', expected an integer: minise train --h"),
    ("train --epochs 1.5", 2, "train: --epochs is '1.5', expected an integer"),
    ("train --lr high", 2, "train: --lr is 'high', expected a number"),
    ("train --limit few", 2, "train: --limit is 'few', expected an integer"),
    ("walk se --shape a b", 2, "walk: --shape is 'a b', expected integers"),
    ("train --ops", 2, "train: --ops has too few values, expected a value"),
    (
        "summary resnet20 --size 32",
        2,
        "summary: --size (is '32', expected two integers|has too few values, expected 2 values)",
    ),
    (
        "train --mean 0.5",
        2,
        "train: --mean (is '0.5', expected three numbers|has too few values, expected 3)",
    ),
    ("train --recipe quik", 2, "train: --recipe is 'quik', expected .*did you mean quick"),
    ("summary se_resnet8 --gate sigmod", 2, "summary: --gate is 'sigmod', .*did you mean sigmoid"),
    ("train --squeeze mx", 2, "train: --squeeze is 'mx', .*did you mean max"),
    ("summary resnet20 --shortcut C", 2, "summary: --shortcut is 'C', expected one of A, B"),
    ("data shapes10 --split tset", 2, "data: --split is 'tset', .*did you mean test"),
    ("eval a --checkpoint bst", 2, "eval: --checkpoint is 'bst', .*did you mean best"),
    ("eval a --crops 5", 2, "eval: --crops is '5', expected one of 1, 10: minise eval --help"),
    ("eval", 2, "eval: PATH is missing, expected the run folder.*: minise eval --help"),
    ("bench", 2, "bench: the subject is missing, expected one of cpu, shapes, .*bench --help"),
    ("bench gpu", 2, "bench: 'gpu' is unknown, expected one of cpu, shapes, "),
    ("bench cpu --what stp", 2, "bench: --what is 'stp', .*did you mean step"),
    ("train --lr nan", 2, "train: lr is nan, expected a number from 0 to"),
    ("train --lr -1", 2, "train: lr is -1.0, expected a number from 0 to"),
    ("train --crop 4 --resized-crop", 2, "train: --crop 4 and --resized-crop are both .*one out"),
    ("train --resized-crop --crop 2", 2, "train: crop is 2 and .*: leave out --crop, or"),
    ("train --batch-size 0", 2, "train: batch_size is 0, expected at least 1"),
    ("train --epochs -1", 2, "train: epochs is -1, expected at least 1"),
    ("train --warmup 5", 2, "train: warmup is 5.0, expected a number from 0 to 1"),
    ("train --mean 125 123 114", 2, "mean is 125.0, expected .* from 0 to 1, for pixels of 0..1"),
    ("train --std 0 1 1", 2, "train: std is 0.0, expected three numbers from above 0"),
    ("train --reduction 0", 2, "SE: reduction is 0, expected at least 1"),
    ("train --name a/b", 2, "train: name is 'a/b', expected a plain folder name: .* with out"),
    ("train --recipe quick --config a", 2, "train: --recipe quick and .*: leave one out"),
    (f"{TINY} --val 8", 2, "train: val is 8, expected at most 7: .* pass a smaller --val"),
    (f"{TINY} --threads 4000", 2, "train: threads is 4000, expected at most"),
    (f"{TINY} --algorithm direct", 2, "has one algorithm only, .*: leave it out, .* 'jit'"),
    (f"{TINY} --size 16", 2, "size is 16, expected 32, .*: leave it out"),
    (f"{TINY} --model se_resnet21", 2, "'se_resnet21' is unknown: did you mean se_resnet"),
    ("summary vgg", 2, "model 'vgg' is unknown: did you mean vgg16"),
    ("summary xyzzy", 2, "model 'xyzzy' is unknown, expected a name such as resnet20"),
    ("summary resnet20 --reduction 4", 2, "resnet20 has no SE blocks, .*: use se_resnet20"),
    ("summary resnet20 --num-classes 0", 2, "num_classes is 0, expected at least 1"),
    ("summary resnet20 --size 0 32", 2, r"size \(rows\) is 0, expected at least 1"),
    ("quickstart --seed -1", 2, "seed is -1, expected at least 0"),
    ("check --cases 0", 2, "check: cases is 0, expected at least 1"),
    ("check --op conv3d", 2, "check: op is 'conv3d', .*did you mean conv2d"),
    ("bench cpu --rounds 0", 2, "bench cpu: rounds is 0, expected at least 1"),
    ("bench scaling --depths 8 20", 2, "depths is .*, expected at least 3 different values"),
    ("bench cpu --net resnt20", 2, "'resnt20' is unknown: did you mean resnet20"),
    ("profile --net resnt20", 2, "'resnt20' is unknown: did you mean resnet20"),
    ("bench scaling --plot a.jpg", 2, "plot's suffix is '.jpg', expected one of .png, .svg"),
    ("walk", 2, "walk: name an op to walk through, for example `minise walk se`"),
    ("walk squeeze", 2, "walk: 'squeeze' is unknown, .*did you mean squeeze_excite"),
    ("walk se --settings gate=tahn", 2, "gate is 'tahn', .*did you mean tanh"),
    ("walk se --settings gat=tanh", 2, "walk: settings has gat, expected some of squeeze, gate"),
    ("walk se --settings gate", 2, "walk: settings has 'gate', expected name=value, such as gate="),
    ("walk conv --shape 2 3", 2, r"walk: shape is \(2, 3\), expected 4 numbers: x of conv2d"),
    ("walk se --ops jit", 2, "walk: ops is 'jit', expected reference or a .py file"),
]

BACK_ENDS = [
    ("check --ops refrence", 2, "ops 'refrence' is unknown, .*did you mean reference"),
    (f"{TINY} --ops jitt", 2, "ops 'jitt' is unknown, .*did you mean jit"),
    (f"{TINY} --ops cuda", 2, "CuPy is not installed: pip install", setups.no_cupy),
    ("bench cuda", 2, "CuPy is not installed: pip install", setups.no_cupy),
    ("bench cpu --ops cuda", 2, "ops is 'cuda', expected .* on the CPU: .*minise bench cuda"),
    (f"{TINY} --ops my_op.py", 2, "my_op.py' does not exist, .*did you mean my_ops.py", ops("")),
    ("check --ops .", 2, "ops '.' is a folder, expected a Python file"),
    (OPS, 2, "^minise: my_ops.py:1: SyntaxError: ", file("my_ops.py", "def f(:\n")),
    (OPS, 2, "my_ops.py:1: .*: install nonesuch, or put", file("my_ops.py", "import nonesuch\n")),
    (OPS, 2, "my_ops.py' cannot be read: Perm", ops("1"), denied("pathlib.Path.open", "my_ops.py")),
    ("check --ops my_ops.py", 2, "my_ops.py:3: .*is not UTF-8", file("my_ops.py", b"\n\n#\xe9\n")),
    (OPS, 1, rf"my_ops.py:4: ZeroDivisionError: .*relu_forward\){START}", ops("return 1 / 0")),
    (OPS, 1, f"my_ops.py:3: relu_forward returns as out .*{START}", ops("return x[:, :1], x")),
    (OPS, 1, f"my_ops.py:4: MemoryError: 9 GB .*{START}", ops("raise MemoryError('9 GB')")),
    ("check --ops my_ops.py --cases 2", 1, "1 of 1 ops of my_ops.py are wrong", ops("return 1/0")),
    ("walk relu --ops my_ops.py", 1, "my_ops.py:4: ZeroDivisionError", ops("return 1 / 0")),
    ("eval a", 2, "eval: ops is .*gone.py, .*: pass .* with --ops", checkpoint(ops="gone.py")),
    ("eval a --ops jot", 2, "ops 'jot' is unknown, .*did you mean jit"),
]

DATA = [
    ("data cifar11", 2, "source is 'cifar11', expected one of .*did you mean cifar10"),
    ("data CIFAR10", 2, "source is 'CIFAR10', .*Did you mean cifar10"),
    ("train", 2, "cifar10: root is None and MINISE_DATA is not set: pass root"),
    ("train --root nowhere", 2, "cifar10: looked in nowhere .*Download"),
    ("data cifar10 --root .", 2, "cifar-10-batches-bin/.*has 9 bytes", setups.cut_cifar),
    ("data photos", 2, "source is the file 'photos', expected", file("photos")),
    ("data photos", 2, "photos has no folder train/, expected train/ and", folder("photos")),
    (PHOTOS, 2, "photos/train/a has no images, .*: add some", folder("photos/train/a")),
    (PHOTOS, 2, "1 sub-folder with images, expected at least 2", photos, removed("photos/train/b")),
    (PHOTOS, 2, "photos has no folder test/, expected", photos, removed("photos/test")),
    (PHOTOS, 2, "photos/test has images of 'c', expected only", photos, setups.third_class),
    ("data photos --split val", 2, "photos has no folder val/", photos),
    (f"{PHOTOS} --size 0", 2, "size is 0, expected at least 1", photos),
    (PHOTOS, 2, "a/0.png cannot be read .*: replace", photos, truncated("photos/test/a/0.png", 60)),
    (PHOTOS, 2, "a/0.png cannot be read .*identify", photos, file("photos/test/a/0.png", "text")),
    (PHOTOS, 2, f"a/0.png {DENIED}", photos, denied("builtins.open", "a/0.png")),
    (PHOTOS, 2, f"photos/train {DENIED}", photos, denied("os.scandir", "photos/train")),
    (
        f"{PHOTOS} --resized-crop --mean 0 0 0 --std 1 1 1",
        1,
        "a/0.png cannot be read .*: replace or remove it; runs/.*has the state",
        photos,
        truncated("photos/train/a/0.png", 60),
    ),
    (
        f"{PHOTOS} --resized-crop",
        2,
        "test/a/0.png cannot be read .*: replace",
        photos,
        truncated("photos/test/a/0.png", 60),
    ),
    (f"{TINY} --resized-crop", 2, "needs Pillow: pip install", setups.no_pillow),
    ("eval a --data photos", 2, "photos/test has images of 'a', 'b', expected only", photos),
    (
        TRAIN,
        1,
        r"train: .*\(8 GB\): use ",
        calls("minise.train.setup.load", MemoryError("8 GB")),
    ),
]

RUNS = [
    ("eval b", 2, "b does not exist, expected a checkpoint .* or the folder of a run"),
    ("eval c/run-3", 2, "c/run-3 does not exist, .*did you mean run-2", folder("c/run-2")),
    ("eval .", 2, "last.safetensors does not exist, expected a checkpoint: pass a run such as a$"),
    ("predict c p.png", 2, "c/last.safetensors .*: pass the folder of another run", folder("c")),
    ("eval a", 2, "best.safetensors is truncated or .*: copy it again", truncated(BEST, 9000)),
    ("predict a p.png", 2, "best.safetensors is truncated or .*: copy it again", file(BEST)),
    (
        "eval a",
        2,
        "best.safetensors is altered: .* fails its checksum: copy it again, or pass a/last.safet",
        setups.altered,
    ),
    ("eval a", 2, "best.safetensors has format 'minise-net-1', expected", setups.net_only),
    (
        "eval a",
        2,
        "does not fit the net: it lacks layer1.*: build the",
        checkpoint(model="resnet20"),
    ),
    (
        "eval a",
        2,
        "has lrr, which this version of .* does not know: did you mean lr",
        checkpoint(lrr=1),
    ),
    ("summary a/config.json", 2, "config.json is truncated or not a safetensors file"),
    ("eval a", 2, f"a/best.safetensors {DENIED}", denied("builtins.open", BEST)),
    ("eval a", 2, "best.safetensors is a folder, expected", removed(BEST), folder(BEST)),
    (
        "eval a",
        1,
        "a/best.safetensors is not usable: layer conv1, parameter weight",
        setups.not_finite,
    ),
    ("predict a p.png", 1, "a is not usable: layer conv1, parameter weight", setups.not_finite),
    (
        "eval a",
        2,
        "no folder test/.* has moved, .*--data",
        folder("photos"),
        checkpoint(data="photos"),
    ),
    ("eval a", 1, "eval: .*memory.*: use fewer or", calls("minise.train.evaluate", MemoryError())),
    ("train --config b", 2, "b does not exist, expected the config.json of a run: pass"),
    (
        "train --config p.txt",
        2,
        "p.txt is not a run's config.json: .*: pass",
        file("p.txt", "text"),
    ),
    ("train --config a", 2, "versions.minise is '99.0', .*: upgrade", config(version="99.0")),
    ("train --config a", 2, "config.json has epoch, .*: did you mean epochs", config(epoch=3)),
    ("train --config a", 2, "config.json: lr is 'fast', expected a number", config(lr="fast")),
    (
        "train --config a",
        2,
        f"config.json {DENIED}",
        denied("pathlib.Path.read_text", "config.json"),
    ),
    ("verify", 2, "verify: runs is empty, expected at least one run: pass runs/NAME"),
    ("verify .", 2, r"^minise: . has no file of a run, expected .*: pass a run such as a$"),
    ("verify a aa", 2, r"^minise: aa does not exist, expected .*: did you mean a\?$"),
    (
        "verify a/config.json",
        2,
        "a/config.json is a file, expected the folder of a run .*: pass a$",
    ),
    ("verify a", 1, f"verify: 1 of 1 are damaged: {BEST} is altered: .* fails", setups.altered),
    ("verify a", 1, f"verify: 1 of 1 are damaged: {BEST} is not finite: conv1", setups.not_finite),
    ("verify a", 1, "1 are damaged: a/config.json: versions.minise is '9", config(version="9.9")),
    ("eval a --crops 10", 2, "eval: crops is 10, expected 1, because .*: leave out --crops"),
    ("predict a", 2, "predict: images is empty, expected at least one image file"),
    ("predict a p.png", 2, "p.png does not exist, expected an image file"),
    ("predict a a", 2, "read_image: a is a folder, expected an image file"),
    ("predict a a/config.json", 2, "a/config.json cannot be read .*: replace or remove it"),
    ("predict a p.png --top 0", 2, "predict: top is 0, expected at least 1"),
    ("predict a p.png --size 0", 2, "size is 0, expected at least 1"),
    ("predict a p.png", 2, "needs Pillow: pip install", file("p.png"), setups.no_pillow),
    ("walk relu --file x.npz", 2, "walk: x.npz does not exist, expected a .npz file: write"),
    ("walk relu --file x.npz", 2, r"x.npz cannot be read \(not a .npz file", file("x.npz", "text")),
    (
        "walk relu --file x.npz",
        2,
        r"x.npz cannot be read \(not a .npz file",
        file("x.npz", "PK\3\4"),
    ),
    ("walk relu --file .", 2, r"walk: \. is a folder, expected a .npz file"),
]

FILES = [
    (TRAIN, 2, r"folder runs/b cannot be written \(Not a dir.*\): choose another", file("runs")),
    (TRAIN, 2, "runs/b exists already: choose another name", folder("runs/b")),
    (
        TRAIN,
        2,
        r"runs/b cannot .*\(Read-only.*\): choose",
        calls("pathlib.Path.mkdir", oserror(30)),
    ),
    (TRAIN, 2, r"folder runs/b cannot .*\(No space.*\): choose", write_fails(errno.ENOSPC)),
    (TRAIN, 1, f"runs/b/config.json {FULL}.*{NONE}", write_fails(errno.ENOSPC, 2)),
    (TRAIN, 1, f"runs/b/metrics.jsonl {FULL}.*{LAST} 1", setups.full_log),
    (TRAIN, 1, f"runs/b/last.safetensors {FULL}.*{NONE}", write_fails(errno.ENOSPC, 5)),
    (TRAIN, 1, f"runs/b/best.safetensors {FULL}.*{LAST} 1", write_fails(errno.ENOSPC, 11)),
    (TRAIN, 1, rf"best.safetensors .*\(Disk quota .*free.*{LAST} 1", write_fails(errno.EDQUOT, 11)),
    (
        TRAIN,
        1,
        rf"best.safetensors .*\(Read-only .*another.*{LAST} 1",
        write_fails(errno.EROFS, 11),
    ),
    ("data shapes10 --png no/s.png", 2, "no/s.png cannot be written .*: create its folder first"),
    ("data shapes10 --png /dev/full", 2, "/dev/full cannot be written .*: free some space"),
    ("walk relu --html no/page.html", 2, "walk: html is no/page.html, .*: create the folder no"),
    ("walk relu --html .", 2, r"walk: html is the folder \., expected a file"),
    ("walk relu --html p.html", 2, f"p.html {FULL}", setups.full_text),
    ("walk --all p", 2, "walk: all is the file p, expected a folder", file("p")),
    ("walk --all p", 2, r"p/\S*html cannot be written .*: free some", setups.full_text),
    ("bench cpu --json no/r.json", 2, "json is no/r.json, expected .*: create no first"),
    ("profile --json .", 2, r"profile: json is the folder \., expected a file"),
]

ENDED = [
    ("check", 130, "check: interrupted", calls("minise.ops.backend.load_ops", KeyboardInterrupt())),
    ("eval a", 130, "eval: interrupted", calls("minise.train.evaluate", KeyboardInterrupt())),
    ("profile", 130, "profile: interr", calls("minise.bench.profile.prepare", KeyboardInterrupt())),
    ("quickstart", 130, f"train: interrupted.*{NONE}", signals("minise.train.setup.load")),
    (TRAIN, 130, f"train: interrupted.*{NONE}", signals("minise.train.setup.load")),
    (TRAIN, 130, f"train: interrupted.*{NONE}", signals("minise.models.build")),
    (
        OPS,
        130,
        "train: interrupted; runs/resnet8-.* after step 0; to con",
        ops("raise KeyboardInterrupt"),
    ),
    (TRAIN, 130, f"train: interrupted{LAST} 0{TO_CONTINUE}", signals(STEP, times=2)),
    (TRAIN, 130, f"after step 1 of 2{SAVED}", signals(STEP)),
    (TRAIN, 143, f"after step 1 of 2{SAVED}", signals(STEP, SIGTERM)),
    (TRAIN, 1, r"train: the GPU failed \(scale failed .*SYNC=1 names", calls(STEP, FAULT)),
    (
        TRAIN,
        1,
        r"the GPU failed \(cudaErrorLaunch.*nvidia-smi shows",
        calls(STEP, CUDA_ERROR),
    ),
    (TRAIN, 130, f"interrupted in validation{LAST} 1{TO_CONTINUE}", signals(EVALUATE)),
    (TRAIN, 143, f"in validation{LAST} 2{TO_CONTINUE}", signals(EVALUATE, SIGTERM, after=1)),
    (TRAIN, 130, f"interrupted in the test{LAST} 2{TO_CONTINUE}", signals(EVALUATE, after=2)),
    (TRAIN, 143, f"in the test{LAST} 2{TO_CONTINUE}", signals(EVALUATE, SIGTERM, after=2)),
    (TRAIN, 130, f"after step 1 of 2{SAVED}", signals("os.fsync", after=5)),
    (TRAIN, 130, f"in validation{LAST} 1{TO_CONTINUE}", signals("os.fsync", after=8)),
    (TRAIN, 130, f"in validation{LAST} 2{TO_CONTINUE}", signals("os.fsync", after=14)),
    (
        TRAIN,
        1,
        "step on a batch of 4 does not fit.*of 2 fits.*--batch-",
        calls(STEP, MemoryError()),
    ),
    (TRAIN, 1, f"train: .*memory.*{LAST} 1$", calls(EVALUATE, MemoryError("9 GB"))),
    (TRAIN, 1, f"train: .*memory.*{LAST} 2$", calls(EVALUATE, MemoryError("9 GB"), after=2)),
    (f"{TRAIN} --lr 1e6 --warmup 0 --epochs 9", 1, "not finite.*: lower the .*--guard.*; "),
    (
        f"{PHOTOS} --name b",
        1,
        f"cannot .*{LAST} 2$",
        photos,
        lazy,
        truncated("photos/test/a/0.png", 60),
    ),
    (
        PHOTOS,
        1,
        "does not exist, .*: it has been removed .*; runs/resnet8-photos-1/.* after step 0$",
        photos,
        lazy,
        setups.vanishing,
    ),
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return the folder of a run of TINY, which no test changes."""
    out = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("minise.train.setup.SHAPES10_TEST", 20)
        assert main([*TINY.split(), "--epochs", "1", "--out", str(out), "--name", "a"]) == 0
    return out / "a"


@pytest.fixture(autouse=True)
def _in_a_folder_with_a_run(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MINISE_DATA", raising=False)
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr("minise.train.setup.SHAPES10_TEST", 20)
    shutil.copytree(trained, "a")


def test_the_table_is_long():
    assert sum(map(len, (ARGUMENTS, BACK_ENDS, DATA, RUNS, FILES, ENDED))) >= 80


@pytest.mark.parametrize(
    ("line", "status", "words", "prepare"),
    [
        (line, status, words, prepare)
        for line, status, words, *prepare in [*ARGUMENTS, *BACK_ENDS, *DATA, *RUNS, *FILES, *ENDED]
    ],
)
def test_a_failure_is_one_line(line, status, words, prepare, capsys):
    with pytest.MonkeyPatch.context() as patch:
        for setup in prepare:
            setup(patch)
        try:
            actual, _, err = call(line, capsys)
        except KeyboardInterrupt:  # would end pytest
            pytest.fail("KeyboardInterrupt")
    assert re.fullmatch("minise: .*\n", err)  # one line
    assert re.search(words, err.rstrip("\n"))
    assert actual == status


# Standard output


@pytest.mark.parametrize(
    ("output", "status", "err"),
    [
        ("/dev/full", 1, r"minise: summary: writing failed \(No space left on device\): .*\n"),
        ("&-", 0, ""),  # closed
    ],
)
def test_output_that_cannot_be_written(output, status, err):
    line = f"{sys.executable} -m minise summary all >{output}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    assert re.fullmatch(err, done.stderr)
    assert done.returncode == status


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_names_that_the_output_cannot_encode_are_escaped(encoding, capsys, monkeypatch):
    """A class and an image whose names are not UTF-8, and a page of formulas."""
    photos(None)
    for part in ("train", "test"):
        os.rename(f"photos/{part}/b".encode(), f"photos/{part}/".encode() + b"\xe9")
    shutil.copy("photos/test/a/0.png", os.fsdecode(b"\xe9.png"))
    for arguments in (
        [*PHOTOS.split(), "--name", os.fsdecode(b"\xe8")],
        ["eval", os.fsdecode(b"runs/\xe8")],
        ["predict", os.fsdecode(b"runs/\xe8"), os.fsdecode(b"\xe9.png")],
        ["data", "photos"],
        ["walk", "se"],
    ):
        output = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", output)
            assert main(arguments) == 0
        if arguments[0] in ("eval", "data"):
            assert rb"\udce9" in output.buffer.getvalue()
    assert capsys.readouterr().err == ""
