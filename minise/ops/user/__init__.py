"""A file of the user's own as a back end: imported, completed by the reference, its errors told.

load.py       imports the file as from its own folder
completed.py  its ops first, the reference's where it has none
pair.py       one op's two halves, fitted to the contract
fit.py        calls a forward that takes fewer arrays or settings than the reference
composed.py   the fused ops as the ops that they are made of
errors.py     an error of the user's own as one line with his file and line
"""
