"""The command: each module parses, calls and prints; no other code prints or exits."""
