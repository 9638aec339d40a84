"""python -m jaxsode.reproduce: what `jaxsode reproduce` does."""

from jaxsode.commands import programs
from jaxsode.commands.exits import leave
from jaxsode.commands.reproduce import main

if __name__ == "__main__":
    programs.keep()
    leave(main(prog="python -m jaxsode.reproduce"))
