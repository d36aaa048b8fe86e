"""One module per subcommand: plan what to do, run it, return what came of it."""
