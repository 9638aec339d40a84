"""python -m jaxsode.run: what `jaxsode run` does."""

from jaxsode.commands import programs
from jaxsode.commands.exits import leave
from jaxsode.commands.run import main

if __name__ == "__main__":
    programs.keep()
    leave(main(prog="python -m jaxsode.run"))
