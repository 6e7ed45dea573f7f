"""What a back end must satisfy: the rules, their run on drawn cases, and a spec of each op."""
