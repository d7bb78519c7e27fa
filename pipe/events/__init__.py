"""Events: what other services tell, and what topics get to hear of it.

It knows topics, and neither SSH nor HTTP: the fronts bring in what comes from outside.
"""
