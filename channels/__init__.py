"""Ways to reach a person: one adapter a channel behind one interface, and the pure rules around them."""
