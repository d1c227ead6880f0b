"""The scripts behind every number that the documentation states; `README.md` lists them.

They run as modules, from the root of the repository: `python -m benchmarks.speed.inference --help`.
"""
