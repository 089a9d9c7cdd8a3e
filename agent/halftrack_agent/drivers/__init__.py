"""Drivers: how an instance of a workload is started, watched, stopped and found again."""
