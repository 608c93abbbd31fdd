"""Stream agents: they read, ask a pure rule, write and publish, all through the one unit of work."""
