"""The seed of the live models: one and the same, so that a failure is a change of ours; PLUMB_LIVE_SEED=N takes another and
PLUMB_LIVE_SEED=fresh draws one, as tools/release-checks does."""
import os
import secrets

DEFAULT = 20261121
_wanted = os.environ.get("PLUMB_LIVE_SEED") or DEFAULT
SEED = secrets.randbelow(10**6) if _wanted == "fresh" else int(_wanted)
