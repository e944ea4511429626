"""How good is a map: numbers for an attribution, and checks of the method behind it."""
