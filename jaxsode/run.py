"""python -m jaxsode.run: what `jaxsode run` does."""

from jaxsode._imports import at_start

if __name__ == "__main__":
    with at_start():
        from jaxsode.commands import programs
        from jaxsode.commands.exits import leave
        from jaxsode.commands.run import main
    programs.keep()
    leave(main(prog="python -m jaxsode.run"))
