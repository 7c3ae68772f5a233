"""The seed of the live models: fresh for each run, or PLUMB_LIVE_SEED."""
import os
import secrets

SEED = int(os.environ.get("PLUMB_LIVE_SEED") or secrets.randbelow(10**6))
