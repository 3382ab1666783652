"""Owns the patch benchmark: real pairs of models, every installed tool on each of them, and the page of results.

    python -m benchmarks.patches pairs      # train and export the pairs, into the cache
    python -m benchmarks.patches run        # measure modelpatch and every installed peer on them
    python -m benchmarks.patches page       # write docs/benchmarks/patches.md and its chart from the results

Refuses numbers that were not measured: the page is made of the result file alone.
"""
