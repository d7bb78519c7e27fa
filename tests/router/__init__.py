"""The rules of `pipe.router` one by one, by the laws of docs/architecture.md; and all mixed."""
