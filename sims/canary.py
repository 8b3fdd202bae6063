"""One broken build that must be caught, quickly: `python sims/canary.py`.

A suite that has gone blind passes everything, and looks well doing it. This is the smallest proof that ours still sees:
one mutant, few seeds. All of them are hunted by `sims/mutants.py`. The exit status is 0 if it was caught.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from sims.mutants import main  # noqa: E402

CANARY = "answer_before_its_version"
SEEDS = 10

if __name__ == "__main__":
    # What is given goes last: `--help` helps, and `--seeds` gives another number of them.
    sys.exit(main(["--only", CANARY, "--seeds", str(SEEDS), "--json", *sys.argv[1:]]))
