"""The soak of `loadtest/soak/`: that it sees what it should see."""
