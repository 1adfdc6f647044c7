"""`python -m taut`, so that torchrun can start it: `torchrun --nproc-per-node 2 -m taut train R`."""

from taut.cli import main

if __name__ == "__main__":
    main()
