"""One BLAS thread for all tests, and for the processes that they start.

The matrices are small, so a second thread gains nothing; and where another process is busy, waiting
for it costs a hundredfold.
"""

import os

for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"  # read when NumPy is first imported, which is after this file

from threadpoolctl import threadpool_limits  # noqa: E402

threadpool_limits(1)  # in case a plugin was quicker
