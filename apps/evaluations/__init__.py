"""How well it went: suites, drills, scorecards."""
