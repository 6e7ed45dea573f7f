"""Vectors of the processor, tiles in its registers, and the layout of arrays in memory."""
