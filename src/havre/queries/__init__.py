"""The languages of log searches and of Monitoring: how each is parsed and what it means. Pure."""
