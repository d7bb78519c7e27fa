"""`tests.e2e.scattered` where clients stay, and are relayed to where their topics are at home."""

from __future__ import annotations

from .scattered import serve

if __name__ == "__main__":
    serve(moves=False)
