"""`python -m taut`, so that torchrun can start it, too."""

from taut.cli import main

if __name__ == "__main__":
    main()
