"""SIMD vectors, register tiles, the memory layout of arrays, and the caching allocator."""
