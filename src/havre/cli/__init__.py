"""The havre command."""
