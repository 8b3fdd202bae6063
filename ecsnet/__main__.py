"""`python -m ecsnet` is `ecsnet`."""

from ecsnet.cli import main

if __name__ == "__main__":
    main()
