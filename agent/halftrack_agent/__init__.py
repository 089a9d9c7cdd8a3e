"""Acts: verifies plans, reconciles the host with them, drives swaps on local evidence."""
