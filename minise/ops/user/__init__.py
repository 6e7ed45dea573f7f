"""Use a Python file of the user as a back end.

load.py       imports the file with its folder on the path
completed.py  combines the file's ops with the reference's
pair.py       adapts forward and backward of one op to the contract
fit.py        calls a forward that takes fewer arrays or settings than the reference
composed.py   computes fused ops by the ops that they combine
errors.py     reports an error of the user's code as one line with file and line number
"""
