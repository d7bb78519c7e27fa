"""Hooks: what other services tell, on topics of users.

verify      the proof that a delivery is from who it should be from
kinds       what the deliveries of each kind of sender say
deliveries  what came of the last ones
hub         puts these together, and publishes
"""
