"""python -m jaxsode.run: what `jaxsode run` does."""

import sys

from jaxsode.commands.run import main

if __name__ == "__main__":
    sys.exit(main(prog="python -m jaxsode.run"))
