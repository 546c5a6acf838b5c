"""The demonstration's files: a small trained digit classifier and a few test digits."""
