"""Building blocks of the kernels of normalisations and SE blocks."""
