"""The measurements whose committed results the article reads, one script for each file.

``python -m minise.site.measurements.NAME`` writes ``minise/site/results/NAME.json``.
"""
