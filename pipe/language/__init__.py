"""What users and operators may write, and what it means.

    names       users, topics and patterns: one grammar for every front
    flags       how commands and their flags are described, read and shown in help
    requests    a command line becomes a frozen `Publish`, `Subscribe`, `Pipe`, …
    durations   ``90s``, ``1h30m``
    quantities  sizes, counts and durations in settings, with their bounds

Text goes in, values come out; nothing here acts on them.
"""
