"""Try every checkable statement of docs/theory.md on finite laws, where expectations are sums.

    python -m validation.theory

Each check raises if its statement fails, and prints the numbers that it found. Takes seconds.
"""

import time

from validation import theory_draws, theory_terms
from validation.exact import CHECKS

PARTS = (theory_draws, theory_terms)  # importing them enters their checks


def main() -> None:
    """Run all checks and print one line each."""
    began = time.perf_counter()
    for item in CHECKS:
        print(f"§{item.section:5} {item.says}\n       {item.run()}")
    print(f"{len(CHECKS)} statements hold ({time.perf_counter() - began:.1f} s).")


if __name__ == "__main__":
    main()
