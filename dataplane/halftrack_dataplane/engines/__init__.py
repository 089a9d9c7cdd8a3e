"""Sinks and sources for what already keeps data outside of Halftrack. A release's artifact names one of them, or subclasses it."""
