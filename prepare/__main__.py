"""Bring the prepared arrays, the manifest and a run's folds up to date with a data folder.

python -m prepare --data DIR --size 512 --folds 5 --subfolds 4 [--run NAME]
"""

from cxr.errors import run_main
from prepare.steps import main

if __name__ == "__main__":
    run_main(main)
