"""The emulator: it runs CUDA code, and reports undefined behaviour as an error."""

import re

import numpy as np
import pytest

from minise.ops.cuda.sources import Source
from tests.ops.cuda.emulator import Emulator, EmulatorError

pytestmark = pytest.mark.slow

HEAD = 'extern "C" __global__ void __launch_bounds__(256) kernel(double* out, int n) {\n'
SEEDS = range(4)


def run(body, *, blocks=1, threads=64, size=64, seed=0, shared=0, resident=1):
    """Run a kernel on an array and return the array."""
    out = np.zeros(size)
    source = Source("test.cu", f"{HEAD}{body}\n}}\n", ())
    emulator = Emulator(seed=seed, resident=resident)
    settings = dict(dtype=np.float64, threads=threads, shared=shared)
    emulator.launch(source, "kernel", blocks, (out,), (size,), **settings)
    return out


INDEX = "const int i = blockIdx.x * blockDim.x + threadIdx.x;\n"


@pytest.mark.parametrize("seed", SEEDS)
def test_threads_and_blocks(seed):
    out = run(INDEX + "out[i] = 1000 * blockIdx.x + threadIdx.x;", blocks=3, size=192, seed=seed)
    assert out.tolist() == [1000 * (i // 64) + i % 64 for i in range(192)]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("resident", [1, 3])
def test_shared_memory_and_barriers(seed, resident):
    """Each thread writes an element and reads the mirrored element, twice."""
    body = INDEX + (
        "__shared__ double line[64];\n"
        "line[threadIdx.x] = i;\n__syncthreads();\n"
        "const double seen = line[63 - threadIdx.x];\n__syncthreads();\n"
        "line[threadIdx.x] = seen + 1;\n__syncthreads();\n"
        "out[i] = line[63 - threadIdx.x];"
    )
    out = run(body, blocks=4, size=256, seed=seed, resident=resident)
    assert out.tolist() == [i + 1 for i in range(256)]


@pytest.mark.parametrize("seed", SEEDS)
def test_shuffles(seed):
    for shuffle, expected in {
        "__shfl_xor_sync(0xffffffffu, v, 5)": lambda lane: lane ^ 5,
        "__shfl_down_sync(0xffffffffu, v, 7)": lambda lane: lane + 7 if lane < 25 else lane,
        "__shfl_sync(0xffffffffu, v, 3)": lambda lane: 3,
    }.items():
        out = run(f"const double v = threadIdx.x % 32; out[threadIdx.x] = {shuffle};", seed=seed)
        assert out.tolist() == [expected(i % 32) for i in range(64)]


@pytest.mark.parametrize("seed", SEEDS)
def test_votes_and_atomics(seed):
    out = run("out[threadIdx.x] = __ballot_sync(0xffffffffu, threadIdx.x % 32 < 3);", seed=seed)
    assert out.tolist() == [7.0] * 64
    assert run("atomicAdd(out, 1.0);", blocks=5, seed=seed)[0] == 320
    assert run("atomicMax(out, double(threadIdx.x));", seed=seed)[0] == 63


@pytest.mark.parametrize("seed", SEEDS)
def test_lanes_exchange_through_shared_memory(seed):
    body = (
        "__shared__ double line[64];\nline[threadIdx.x] = threadIdx.x; __syncwarp();\n"
        "out[threadIdx.x] = line[threadIdx.x ^ 31];"
    )
    assert run(body, seed=seed).tolist() == [*range(31, -1, -1), *range(63, 31, -1)]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_tensor_core_multiplies_operands_truncated_to_tf32(seed):
    """Truncation takes 2 ** -11 off the integers of a; lanes hold elements as for mma.m16n8k8."""
    body = (
        "const int group = threadIdx.x / 4, own = threadIdx.x % 4;\n"
        "float a[4], b[2], d[4] = {1, 1, 1, 1};\n"
        "for (int r = 0; r < 4; r++)"
        " a[r] = 1 + group + 8 * (r % 2) + 2 * (own + 4 * (r / 2)) + exp2f(-11);\n"
        "for (int r = 0; r < 2; r++) b[r] = 3 * (own + 4 * r) - group;\n"
        "emulator::multiply_add(d, a, b, __LINE__);\n"
        "for (int r = 0; r < 4; r++) out[(group + 8 * (r / 2)) * 8 + 2 * own + r % 2] = d[r];"
    )
    i, j = np.arange(16)[:, None], np.arange(8)
    expected = 1 + (1.0 + i + 2 * j) @ (3.0 * j[:, None] - j)
    assert (run(body, threads=32, size=128, seed=seed).reshape(16, 8) == expected).all()


def test_an_unfair_order_reveals_a_race_that_fair_orders_hide():
    """A warp writes the next value while another has not read the last one."""
    body = (
        "__shared__ double line[64]; double sum = 0;\n"
        "for (int k = 0; k < 2; k++) {\n"
        "line[threadIdx.x] = k; __syncthreads();\n"
        "double seen = line[63 - threadIdx.x];\n"
        "for (int away = 16; away; away /= 2) seen += __shfl_xor_sync(0xffffffffu, seen, away);\n"
        "sum += seen / 32;%s\n"
        "} out[threadIdx.x] = sum;"
    )
    race, correct = body % "", body % " __syncthreads();"
    wrong = [bool((run(race, seed=seed) != 1).any()) for seed in range(6)]
    assert wrong[:2] == [False, False]
    assert any(wrong[2:])
    assert all((run(correct, seed=seed) == 1).all() for seed in range(6))


def test_a_seed_selects_an_order():
    """Without atomics the last write remains: the seed determines the last thread."""
    body = "out[0] = threadIdx.x;"
    assert [run(body, seed=seed)[0] for seed in (0, 1)] == [63, 0]
    others = [run(body, seed=seed)[0] for seed in range(2, 10)]
    assert others == [run(body, seed=seed)[0] for seed in range(2, 10)]
    assert len(set(others)) > 3


def test_uninitialised_memory_is_nan():
    out = run("__shared__ double line[64]; out[threadIdx.x] = line[threadIdx.x];")
    assert np.isnan(out).all()
    again = "__shared__ double line[64]; out[threadIdx.x] += line[threadIdx.x]; line[0] = 1;"
    assert np.isnan(run(again, blocks=3)).all()  # also in the second block
    assert np.isnan(run("out[threadIdx.x] = out[n + threadIdx.x];")).all()


REFUSED = {
    "lanes that never come": (
        "if (threadIdx.x % 32 < 9) out[0] = __shfl_xor_sync(0xffffffffu, 1.0, 1);",
        "threads wait for ever: shuffle, line 2",
    ),
    "two barriers": (
        "if (threadIdx.x < 32) {\n__syncthreads(); } else {\n__syncthreads(); }",
        "threads of one barrier at line 4 and line 3",
    ),
    "two shuffles": (
        "if (threadIdx.x % 32 < 9) out[0] = __shfl_xor_sync(0xffffffffu, 1.0, 1);\n"
        "else out[1] = __shfl_xor_sync(0xffffffffu, 1.0, 1);",
        "threads of one shuffle at line 3 and line 2",
    ),
    "a lane outside the mask": (
        "out[0] = __shfl_xor_sync(0xffffu, 1.0, 1);",
        "a lane shuffles that is not in its mask, line 2",
    ),
    "a read from outside the mask": (
        "if (threadIdx.x % 32 < 16) out[0] = __shfl_xor_sync(0xffffu, 1.0, 16);",
        "a shuffle reads a lane that is not in its mask, line 2",
    ),
    "a write behind the end": ("out[n] = 1;", "wrote outside an array of shape (64,)"),
    "a write before the start": ("out[-1] = 1;", "wrote outside an array of shape (64,)"),
    "a write behind a shared array": (
        "__shared__ double line[64]; line[threadIdx.x + 1] = 1;",
        "wrote outside the shared arrays",
    ),
    "a misaligned address": (
        "out[0] = *(double*)ALIGNED((char*)out + 8, 16);",
        "an address is not a multiple of 16 bytes (block 0,0, thread 0)",
    ),
    "too much static memory": (
        "__shared__ double line[6200]; line[0] = 1;",
        "static shared memory above 48 KB",
    ),
}


@pytest.mark.parametrize("error", REFUSED)
def test_refuses(error):
    body, message = REFUSED[error]
    with pytest.raises(EmulatorError, match=re.escape(message)):
        run(body)


def test_refuses_writes_through_a_const_pointer():
    text = 'extern "C" __global__ void kernel(const double* a) { *(double*)a = 1; }'
    source, dtype = Source("test.cu", text, ()), np.float64
    with pytest.raises(EmulatorError, match=r"wrote an array of shape \(2,\), declared const"):
        Emulator().launch(source, "kernel", 1, (np.zeros(2),), (), dtype=dtype, threads=32)


def test_refuses_more_shared_memory_than_the_chip_has():
    with pytest.raises(
        EmulatorError, match="shared memory is 240000 bytes, expected at most 232448"
    ):
        run("out[0] = 1;", shared=240000)


def test_a_compiler_error_shows():
    with pytest.raises(EmulatorError, match="error: .*nothing"):
        run("out[0] = nothing;")


def test_runs_again_after_an_error():
    with pytest.raises(EmulatorError):
        run("__shared__ double line[64]; line[threadIdx.x + 1] = 1;")
    assert np.isnan(run("__shared__ double line[64]; out[threadIdx.x] = line[threadIdx.x];")).all()
