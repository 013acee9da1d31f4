"""Where entries lie: live files, closed files and segments; queries over them, and their upkeep."""
