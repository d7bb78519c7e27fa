"""What users and operators may write, and what it means.

    names       users, topics and patterns: one grammar for every front
    flags       commands and their flags: how they are described, read and shown in help
    requests    turns a command line into a frozen `Publish`, `Subscribe`, `Pipe`, …
    durations   ``90s``, ``1h30m``
    sizes       ``64KiB``, ``1.5GiB``
    quantities  sizes, counts and durations in settings, with their bounds
    writing     the other way round: a request as a command line
    wording     numbers as sentences have them

Text goes in and values come out; nothing here acts on them.
"""
