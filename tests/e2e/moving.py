"""`tests.e2e.scattered` where clients move to the workers in which their topics are at home."""

from __future__ import annotations

from .scattered import serve

if __name__ == "__main__":
    serve(moves=True)
