"""Who may do what.

    grants   what an owner has given to others
    access   the one judge of every right, and what it remembers
    live     what those who end a session need to know of it

It is asked and told; it knows neither a database nor a loop.  `pipe.store.guard` keeps it in step
with the database.
"""
