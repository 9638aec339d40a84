"""The command's sub-commands, a file each; their options come in groups that they share (`options`)."""
