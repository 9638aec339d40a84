"""Other frameworks' files of weights, turned into ours; name maps are data.

`readers` read a file, `engine` maps, folds and lays out its tensors, `converted` is the file we write,
and `convert` joins them.
"""
