"""An operation is work plus a computation: immutable references, keys, and the three backends that
evaluate them.
"""
