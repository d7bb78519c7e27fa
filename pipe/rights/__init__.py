"""Who may do what.

    grants   what an owner has given to others
    access   decides every right, and keeps what it decides by
    live     what others need to know about a session to list or end it

This package knows no database and no event loop.  `pipe.store.guard` keeps it in step with the
database.
"""
